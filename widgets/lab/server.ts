// Client of nbllm's server extension. ServerConnection adds the token and the XSRF header.

import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection } from "@jupyterlab/services";

import { type Activity, readActivity } from "./activity";

export interface Curated {
  name: string; // of its file
  title: string;
  summary: string;
  minutes: number | null;
}

/** The server runs without nbllm's server extension. */
export class NotEnabled extends Error {
  constructor() {
    super(
      "The Jupyter server runs without nbllm's server extension, so models and jobs are not seen. " +
        "Install nbllm where the server runs, or run `jupyter server extension enable nbllm.lab` " +
        "there, and restart the server.",
    );
  }
}

export class Server {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  async activity(): Promise<Activity> {
    return readActivity(await this.request("activity"));
  }

  async cancel(job: string): Promise<void> {
    await this.request(`jobs/${encodeURIComponent(job)}/cancel`, {});
  }

  async notebooks(): Promise<Curated[]> {
    const answer = await this.request("notebooks");
    return Array.isArray(answer) ? answer : [];
  }

  /** Copies a curated notebook into a folder of the user's; returns the path of the copy. */
  async copy(name: string, folder: string): Promise<string> {
    const answer = await this.request(`notebooks/${encodeURIComponent(name)}/copy`, { folder });
    return (answer as { path: string }).path;
  }

  /** Returns the answer to a GET or, with a body, to a POST. */
  private async request(path: string, body?: object): Promise<unknown> {
    const response = await ServerConnection.makeRequest(
      URLExt.join(this.settings.baseUrl, "nbllm", path),
      body === undefined ? {} : { method: "POST", body: JSON.stringify(body) },
      this.settings,
    );
    const text = await response.text();
    const answer = parsed(text);
    if (response.ok) return answer;
    const message = (answer as { message?: unknown } | undefined)?.message;
    // Without the extension, the server answers with a page or with a message of its own.
    if (response.status === 404 && body === undefined) throw new NotEnabled();
    throw new Error(typeof message === "string" && message ? message : `The server answered ${response.status}.`);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
