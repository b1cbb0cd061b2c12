"""The types of all messages between the two halves of the widgets, and shared constants.

widgets/shared/protocol.ts is generated from this folder by tools/generate_protocol.py.

The browser (widgets/shared/kernel.ts) sends a `RequestMessage` of one or more requests, each with a
number that is unique among the views of the kernel. Python (nbllm/widgets/requests.py) replies with
an `AnswerMessage` with the same numbers and the concatenated binary buffers of all answers.
anywidget's own `invoke` does not answer a failed request, times out on a busy kernel after three
seconds, and does not work in a saved page.

Requests that Python writes, for initial answers and for pages, have these types. Requests from a
browser may contain anything, so they are read as mappings and checked.
"""
