"""What an answer quotes, found in the prompt of its row."""

import pandas as pd

import nbllm  # noqa: F401  registers df.llm
from nbllm.models.model import Model

TEXT = 'Order <b>66-4012</b> of 3 pans, "Leeds".'


def test_fields_are_marked_where_they_stand(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"t": [TEXT, None]})
    schema = {"place": str, "count": int | None, "colour": bool}
    answered = frame.llm.extract("t", schema, model=tiny_llama)
    why = answered.llm.explain(0, model=tiny_llama)
    words = {q.name: why.prompt.text[q.start : q.end] for q in why.quotes}
    assert words["place"] == answered["t_extract_place"][0]
    assert "colour" not in words
    shown = why.evidence_html()
    assert f"{words['place']}<sub" in shown.replace("&lt;", "<").replace("&gt;", ">")
    assert "<b>" not in shown


def test_other_answers_quote_nothing(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"t": [TEXT]})
    answered = frame.llm.sentiment("t", model=tiny_llama)
    assert answered.llm.explain(0, model=tiny_llama).quotes == []


def test_an_answer_is_marked_in_its_text(tiny_llama: Model) -> None:
    frame = pd.DataFrame({"t": [TEXT], "q": ["Where?"]})
    answered = frame.llm.answer("q", context_column="t", threshold=0, model=tiny_llama)
    answered["q_answer"] = ["Leeds"]
    why = answered.llm.explain(0, model=tiny_llama)
    assert [(q.name, why.prompt.text[q.start : q.end]) for q in why.quotes] == [("answer", "Leeds")]
    # Answered from what the model knows, there is no text to quote.
    alone = frame.llm.answer("q", model=tiny_llama)
    alone["q_answer"] = ["Where?"]
    assert alone.llm.explain(0, model=tiny_llama).quotes == []
