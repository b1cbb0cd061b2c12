// The Jupyter server, which receives what a busy kernel cannot.

export const NOBODY =
  "This server passes nothing on to a busy kernel. Interrupt the kernel instead: what was answered " +
  "is kept.";

/** Where the server is and how it knows the reader, as the page says it. */
function page(): { base: string; headers: Record<string, string> } {
  const element = document.getElementById("jupyter-config-data");
  let config: { baseUrl?: string; token?: string } = {};
  try {
    config = JSON.parse(element?.textContent || "{}");
  } catch {
    // Not a page of Jupyter's.
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

/** Asks for a job to stop. Returns what to tell the reader, or nothing where it was understood. */
export async function cancel(job: string): Promise<string> {
  const { base, headers } = page();
  try {
    const reply = await fetch(`${base}nbllm/jobs/${encodeURIComponent(job)}/cancel`, {
      method: "POST",
      headers,
      credentials: "same-origin",
    });
    // It has ended meanwhile, and the kernel is about to say so.
    if (reply.ok || reply.status === 409) return "";
    if (reply.headers.get("content-type")?.includes("json")) {
      const { message } = (await reply.json()) as { message?: unknown };
      if (reply.status !== 404 && typeof message === "string" && message) return message;
    }
    return NOBODY;
  } catch {
    return NOBODY;
  }
}
