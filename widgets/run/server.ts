// Cancels a run through the Jupyter server, since a busy kernel receives no messages.

export const NOT_SUPPORTED =
  "This server passes nothing on to a busy kernel. Interrupt the kernel instead: what was answered " +
  "is kept.";

/** Returns the server's base URL and the headers that authenticate the user, from the page. */
function connection(): { base: string; headers: Record<string, string> } {
  const element = document.getElementById("jupyter-config-data");
  let config: { baseUrl?: string; token?: string } = {};
  try {
    config = JSON.parse(element?.textContent || "{}");
  } catch {
    // Not a page of a Jupyter server.
  }
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1];
  return {
    base: config.baseUrl || document.body?.dataset.baseUrl || "/",
    headers: {
      ...(xsrf && { "X-XSRFToken": decodeURIComponent(xsrf) }),
      ...(config.token && { Authorization: `token ${config.token}` }),
    },
  };
}

/** Requests that a job stop; returns an error message, or "" on success. */
export async function cancel(job: string): Promise<string> {
  const { base, headers } = connection();
  try {
    const reply = await fetch(`${base}nbllm/jobs/${encodeURIComponent(job)}/cancel`, {
      method: "POST",
      headers,
      credentials: "same-origin",
    });
    // 409: it has ended meanwhile, and the kernel is about to report it.
    if (reply.ok || reply.status === 409) return "";
    if (reply.headers.get("content-type")?.includes("json")) {
      const { message } = (await reply.json()) as { message?: unknown };
      if (reply.status !== 404 && typeof message === "string" && message) return message;
    }
    return NOT_SUPPORTED;
  } catch {
    return NOT_SUPPORTED;
  }
}
