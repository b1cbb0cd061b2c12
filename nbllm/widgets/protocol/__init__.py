"""Every message between the widgets' two halves, as types, and the constants that both need.

widgets/shared/protocol.ts is generated from this folder by tools/generate_protocol.py.

The browser sends a `RequestMessage`: requests, each with a number that no other view of the kernel
has. Python answers with an `AnswerMessage` under the same numbers, as one request alone or several
come; the binary buffers of all answers follow each other. nbllm/widgets/requests.py is Python's
end of it, widgets/shared/kernel.ts the browser's. anywidget's own `invoke` is not used: it leaves
a request that failed without an answer, gives up on a busy kernel after three seconds, and cannot
be answered by a saved page.

The requests that Python itself writes, for initial answers and for pages, have these types. Those
that come from a browser may hold anything: they are read as mappings, and checked.
"""
