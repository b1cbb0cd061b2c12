// The view as a page of its own, opened from disk: the same view as in a notebook, on the
// answers that nbllm/widgets/page.py stored in the file. Nothing is asked of any network.

import { h } from "../shared/dom";
import { type Answers, Stored } from "../shared/stored";
import { Traits } from "../shared/traits";
import { mount } from "./index";

interface Content {
  state: Record<string, unknown>;
  about: string;
  answers: Answers;
}

const { state, about, answers } = JSON.parse(
  document.getElementById("nbllm-content")!.textContent!,
) as Content;
const main = h("main");
document.body.replaceChildren(main, h("footer", {}, about));
mount(main, new Traits(state) as never, new Stored(answers));
