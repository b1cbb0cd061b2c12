// The view as an HTML page opened from disk: the same view as in a notebook, on the answers that
// nbllm/widgets/page.py stored in the file. Nothing is fetched from any network.

import { h } from "../shared/dom";
import { OfflineStore } from "../shared/offline";
import { PAGE_CONTENT, PAGE_FORMAT, type PageContent } from "../shared/protocol";
import { Traits } from "../shared/traits";
import { mount } from "./index";

const { format, state, about, answers } = JSON.parse(
  document.getElementById(PAGE_CONTENT)!.textContent!,
) as PageContent;
const main = h("main");
document.body.replaceChildren(main, h("footer", {}, about));
if (format === PAGE_FORMAT) mount(main, new Traits(state) as never, new OfflineStore(answers));
else main.append(`This page has format ${format}; its script reads format ${PAGE_FORMAT}. Write it again with view.to_html.`);
