"""Replies to customers: what a row gets, when a person is due, and what it is worth."""

import json
import warnings

import pandas as pd
import polars as pl
import pytest

from nbllm.engine.generation import TextGenerator
from nbllm.errors import ColumnError, FrameError, LabelError, NbllmError, UnsupportedModelError
from nbllm.frame.retrieval.sources import groundedness, unsupported_numbers
from nbllm.models.model import Model

MESSAGES = [
    "How do I cancel my order?",
    None,
    "When is the refund paid?",
    " ",
    "How do I cancel my order?",
    "Is the tent waterproof?",
]
FAQ = {
    "cancel": "You can cancel an order within 2 hours.",
    "refund": "A refund is paid within 7 days.",
    "none": None,
}
INTENTS = ["order", "refund", "product"]
ENDS = [
    *("", "_score", "_handover", "_reason", "_intent", "_intent_score", "_sentiment"),
    *("_sentiment_score", "_urgency", "_urgency_score", "_sources", "_context", "_error", "_run"),
]


def frame_of(module):
    data = {"n": range(len(MESSAGES)), "message": MESSAGES}
    return module.DataFrame(data, index=list("abcdef")) if module is pd else pl.DataFrame(data)


def sources_of(module):
    texts = list(FAQ.values())
    return pl.DataFrame({"text": texts}) if module is pl else pd.DataFrame({"text": texts}, FAQ)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch):
    """Has the model write what is asked here, by what its prompt holds."""

    def write(said: dict[str, str]) -> None:
        def answers(self: TextGenerator, prompts):
            return [next(t for key, t in said.items() if key in p.text) for p in prompts]

        monkeypatch.setattr(TextGenerator, "__call__", answers)

    return write


@pytest.fixture
def asked(tiny_llama: Model):
    return {"intents": INTENTS, "model": tiny_llama, "max_new_tokens": 4}


@pytest.mark.parametrize("module", [pd, pl])
def test_same_rows_and_nulls_for_blank_messages(module, asked, writes, tmp_path) -> None:
    writes({"cancel": "Cancel within 2 hours.", "refund": "Paid within 7 days."})
    frame = frame_of(module)
    before = frame.copy() if module is pd else frame.clone()
    answered = frame.llm.reply("message", sources_of(module), threshold=0.0, **asked)
    assert frame.equals(before)
    assert list(answered.columns) == ["n", "message", *(f"message_reply{end}" for end in ENDS)]
    assert list(answered["n"]) == list(range(6))
    if module is pd:
        assert list(answered.index) == list("abcdef")
        assert answered.llm.report().verb == "reply"
    path = tmp_path / "answered.parquet"
    answered.to_parquet(path) if module is pd else answered.write_parquet(path)
    again = pl.read_parquet(path)
    assert again["message_reply"].to_list() == [
        *("Cancel within 2 hours.", None, "Paid within 7 days.", None, "Cancel within 2 hours."),
        None,
    ]
    for row in (1, 3):
        assert all(again[f"message_reply{end}"][row] is None for end in ENDS)
    labels = ["cancel", "refund"] if module is pd else [0, 1]
    found = [None if cell is None else json.loads(cell) for cell in again["message_reply_sources"]]
    assert found == [[labels[0]], None, [labels[1]], None, [labels[0]], []]
    assert again["message_reply_context"][2] == FAQ["refund"]
    assert again["message_reply_handover"].to_list() == [False, None, False, None, False, True]
    assert again["message_reply_reason"][5] == "no source matches"
    assert set(again["message_reply_intent"]) - {None} <= set(INTENTS)
    assert set(again["message_reply_urgency"]) - {None} <= {"high", "low"}


def test_why_a_person_is_due(asked, writes) -> None:
    writes({"cancel": "Cancel within 90 hours.", "refund": "Penguins swim beautifully."})
    frame = frame_of(pd).iloc[[0, 2]]
    answered = frame.llm.reply("message", list(FAQ.values()), threshold=0.0, **asked)
    assert answered["message_reply_reason"].iloc[0] == (
        "draft has numbers that its sources have not: 90"
    )
    # A row's draft of other words is kept, and only passed on where the threshold says so.
    assert answered["message_reply_score"].tolist() == pytest.approx([3 / 4, 0.0])
    assert answered["message_reply_handover"].tolist() == [True, False]
    strict = frame.llm.reply("message", list(FAQ.values()), threshold=1.0, **asked)
    assert strict["message_reply_handover"].tolist() == [True, True]
    assert strict["message_reply_reason"].str.contains("intent uncertain").all()
    assert "shares too little with its sources (0.00)" in strict["message_reply_reason"].iloc[1]


def test_another_threshold_asks_nothing_anew(asked, forwards) -> None:
    frame = frame_of(pd)
    once = frame.llm.reply("message", list(FAQ.values()), **asked)
    count = len(forwards)
    again = frame.llm.reply("message", list(FAQ.values()), threshold=0.9, **asked)
    assert len(forwards) == count
    assert once["message_reply"].equals(again["message_reply"])
    # Under its own name an answered frame can be asked again, with other columns kept.
    slim = once.llm.reply("message", list(FAQ.values()), keep=("value",), **asked)
    named = frame.llm.reply("message", list(FAQ.values()), into="a", keep=("value",), **asked)
    ends = [end for end in ENDS if not end.endswith(("_score", "_error", "_run"))]
    assert list(named.columns[2:]) == ["a" + end for end in ends]
    assert list(slim.columns[2:]) == ["message_reply" + end for end in ends]


def test_a_row_does_not_depend_on_its_neighbours(asked) -> None:
    whole = frame_of(pd).llm.reply("message", list(FAQ.values()), ledger=False, **asked)
    alone = frame_of(pd)[2:3].llm.reply("message", list(FAQ.values()), ledger=False, **asked)
    for end in ENDS[:-1]:
        one, other = whole[f"message_reply{end}"]["c"], alone[f"message_reply{end}"]["c"]
        same = one == pytest.approx(other, abs=1e-5) if isinstance(one, float) else one == other
        assert same or (pd.isna(one) and pd.isna(other)), end


def test_failed_rows_are_handed_over_with_their_error(asked) -> None:
    long = "cancel the order " * 1500
    frame = pd.DataFrame({"message": ["Cancel my order.", long, 7]}, index=[3, 4, 5])
    with pytest.warns(UserWarning, match=r"2 of 3 rows have no answer \(index 4, 5\)") as warned:
        answered = frame.llm.reply("message", list(FAQ.values()), **asked)
    assert len(warned) == 1
    assert answered["message_reply_error"].notna().tolist() == [False, True, True]
    assert answered["message_reply_handover"].tolist()[1:] == [True, True]
    assert answered["message_reply_reason"].str.startswith("no answer:").tolist()[1:] == [True] * 2


def test_an_encoder_finds_sources_without_a_word_in_common(asked, tiny_encoder: Model) -> None:
    plain = frame_of(pd).llm.reply("message", list(FAQ.values()), k=1, **asked)
    both = frame_of(pd).llm.reply("message", list(FAQ.values()), k=1, encoder=tiny_encoder, **asked)
    assert plain["message_reply_sources"]["f"] == "[]"
    assert len(json.loads(both["message_reply_sources"]["f"])) == 1
    with pytest.raises(
        UnsupportedModelError,
        match=r"encoder= asks.*is a causal language",
    ):
        frame_of(pd).llm.reply(
            "message", list(FAQ.values()), **{**asked, "encoder": asked["model"]}
        )


def test_a_cancelled_run_has_nulls_and_goes_on_from_the_ledger(asked) -> None:
    from nbllm.frame.calls.registry import find_verb
    from nbllm.frame.running.progress import RunMonitor

    class Impatient(RunMonitor):
        cancelled = property(lambda self: any(step.report.computed for step in self.steps))

    options = {**asked, "sources": list(FAQ.values())}
    model = options.pop("model")
    call = find_verb("reply").call("message", options, {"into": "r"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Impatient("reply", "r", in_background=True) as monitor:
            stopped = call.verb.run(frame_of(pd), call, model, monitor)
    assert stopped["r_intent"].notna().any() and stopped["r"].isna().all()
    assert stopped["r_handover"].isna().all()
    run = frame_of(pd).llm.reply("message", list(FAQ.values()), into="r", background=True, **asked)
    assert run.result(60)["r_handover"].notna().tolist() == [True, False, True, False, True, True]


@pytest.mark.parametrize(
    ("sources", "options", "error", "message"),
    [
        ([], {}, FrameError, "sources has no text"),
        ([None, " "], {}, FrameError, "sources has no text"),
        ("one", {}, FrameError, "sources is one string"),
        (["a", 3], {}, FrameError, "holds 3, which is not a text"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), {}, FrameError, "2 columns of text"),
        (pd.DataFrame({"a": ["x"]}), {"source_column": "q"}, ColumnError, "no column 'q'"),
        (["a"], {"k": 0}, FrameError, "k=0"),
        (["a"], {"threshold": 2}, FrameError, "threshold=2"),
        (["a"], {"intents": ["order"]}, LabelError, "nothing to choose"),
        (["a"], {"intents": ["order", "order"]}, LabelError, "repeated intents"),
        (["a"], {"keep": ("values",)}, FrameError, "keep='values'"),
        (["a"], {"into": "n"}, ColumnError, "already has a column 'n'"),
    ],
)
def test_what_is_refused(sources, options, error, message, asked, forwards) -> None:
    with pytest.raises(error, match=message):
        frame_of(pd).llm.reply("message", sources, **{**asked, **options})
    assert forwards == []


def test_other_models_are_refused(tiny_classifier: Model, tiny_encoder: Model) -> None:
    for model in (tiny_classifier, tiny_encoder):
        with pytest.raises(NbllmError, match="reply asks a causal language model"):
            frame_of(pd).llm.reply("message", ["a"], intents=INTENTS, model=model)


@pytest.mark.parametrize(
    ("draft", "known", "share", "strange"),
    [
        ("Pay within 14 days.", "Payment within 30 days", 2 / 3, ["14"]),
        ("OK.", "anything", 0.0, []),
        ("退款需要七天。", "退款需要七天", 1.0, []),
        ("It is 5.", "The price is 5", 1.0, []),
    ],
)
def test_what_a_draft_shares_with_its_sources(draft, known, share, strange) -> None:
    assert groundedness(draft, known) == pytest.approx(share)
    assert unsupported_numbers(draft, known) == strange


# What the categories of Bitext's utterances are about, and what a shop might say of each.
ABOUT = {
    "ACCOUNT": "opening, closing, changing or recovering a user account",
    "CANCELLATION_FEE": "what it costs to cancel early",
    "DELIVERY": "ways of delivery and how long it takes",
    "INVOICE": "getting or checking a bill",
    "NEWSLETTER": "subscribing or unsubscribing",
    "ORDER": "placing, changing, cancelling or tracking an order",
    "PAYMENT": "ways to pay and trouble with paying",
    "REFUND": "getting money back",
    "SHIPPING_ADDRESS": "entering or changing where to ship",
    "CONTACT": "speaking to a person",
    "FEEDBACK": "complaining or leaving a review",
}
SAID = {
    "ACCOUNT": "You can open, edit or delete your account under Profile. If you forgot your "
    "password, choose Recover on the login page and we e-mail you a new one.",
    "CANCELLATION_FEE": "Leaving a contract early has a cancellation fee of 15 euros.",
    "DELIVERY": "Standard delivery takes 4 days, express delivery 1 day. We ship packages to the "
    "EU and Norway.",
    "INVOICE": "All invoices and bills can be downloaded as a PDF under Orders.",
    "NEWSLETTER": "To subscribe to the newsletter or unsubscribe from it, use our link.",
    "ORDER": "An order can be changed or cancelled within 2 hours after you place it.",
    "PAYMENT": "We accept credit cards, PayPal and bank transfer as payment methods.",
    "REFUND": "Send goods back within 30 days. The refund of your money follows within 7 days.",
    "SHIPPING_ADDRESS": "Enter or change your shipping address under Profile, Addresses.",
    "CONTACT": "Customer service agents can be reached by phone from 9 to 17 o'clock.",
    "FEEDBACK": "You can file a complaint or leave a review and feedback under Help, Feedback.",
}


def test_replies_to_real_messages(data_dir, smollm2: Model) -> None:
    """Bitext's test split; labels and sources were written with the training split in sight."""
    frame = pd.read_parquet(data_dir / "bitext_customer_support.parquet")
    frame = frame[frame["split"] == "test"].sample(100, random_state=0)
    labels = {name.lower().replace("_", " "): about for name, about in ABOUT.items()}
    truth = frame["category"].str.lower().str.replace("_", " ")
    asked = frame.llm.classify("utterance", labels, model=smollm2)
    right = asked["utterance_classify"] == truth
    sure = asked["utterance_classify_score"] >= 0.5
    majority = truth.value_counts(normalize=True).max()
    print(
        f"\nintent, 100 rows: {right.mean():.3f} right, majority {majority:.3f}; "
        f"{right[sure].mean():.3f} of the {sure.mean():.3f} above the threshold"
    )
    assert right.mean() >= majority + 0.2
    assert right[sure].mean() > right.mean() + 0.1

    few = frame[:16]
    sources = pd.DataFrame({"text": list(SAID.values())}, index=list(SAID))
    answered = few.llm.reply("utterance", sources, intents=labels, model=smollm2, max_new_tokens=48)
    intents = answered["utterance_reply_intent"]
    assert intents.equals(asked["utterance_classify"][:16].rename(intents.name))
    handed = answered["utterance_reply_handover"]
    print(
        f"16 rows: drafts for {answered['utterance_reply'].notna().sum()}, mean score "
        f"{answered['utterance_reply_score'].mean():.3f}, handed over {handed.sum()}"
    )
    print(answered[~handed][["utterance", "utterance_reply"]].to_string())
    assert (answered["utterance_reply_score"][~handed] >= 0.5).all()


def test_the_right_source_is_found(data_dir, network_guard) -> None:
    """Among 2 of 11, on Bitext's test split, beside always the two that are right most often."""
    import nbllm
    from nbllm.frame.calls.registry import find_verb
    from nbllm.frame.columns import distinct_rows
    from nbllm.frame.running.progress import RunMonitor
    from nbllm.frame.verbs.reply import _find_sources

    with network_guard.open():
        encoder = nbllm.load("minilm")
    frame = pd.read_parquet(data_dir / "bitext_customer_support.parquet")
    frame = frame[frame["split"] == "test"].sample(150, random_state=0)
    baseline = frame["category"].value_counts(normalize=True)[:2].sum()
    hits = {}
    for name, model in (("words", None), ("words and meaning", encoder)):
        messages = list(set(frame["utterance"]))
        options = {"sources": list(SAID.values()), "intents": ["a", "b"]}
        call = find_verb("reply").call("utterance", options, {"ledger": False})
        rows = distinct_rows([(message,) for message in messages])
        with RunMonitor("reply", "found") as monitor:
            by_number = _find_sources(list(SAID.values()), rows, call, model, monitor)
        found = {messages[n]: sources for n, sources in by_number.items()}
        pairs = zip(frame["utterance"], frame["category"], strict=True)
        right = [label in [list(SAID)[n] for n in found[text]] for text, label in pairs]
        hits[name] = sum(right) / len(right)
    print(f"\nright source among 2 of 11: {hits}, the two most frequent: {baseline:.3f}")
    assert hits["words and meaning"] > baseline + 0.1


def test_urgent_messages_are_told_from_others(smollm2: Model) -> None:
    """Written after the prompt was chosen; half of them are urgent."""
    from nbllm.frame.running.run import answer_frame
    from nbllm.frame.tasks.customer_service import urgency_task
    from tests.asking import question

    urgent = [
        "The gas stove you installed hisses and smells.",
        "My flight is tonight and the booking is gone!",
        "Someone ordered a laptop in my name, stop it immediately.",
        "We have had no electricity since this morning, my mother needs her oxygen.",
        "The exam starts in ten minutes and I cannot log in.",
        "Please, the cake has to be here by noon, it is our wedding.",
    ]
    other = [
        "What is the weight of the folding table?",
        "I was wondering whether you plan to open a shop in Porto.",
        "The book was a pleasure to read.",
        "How do I get a copy of last year's invoice?",
        "Can I change the language of the newsletter?",
        "Do you offer gift wrapping?",
    ]
    frame = pd.DataFrame({"text": urgent + other})
    answered = answer_frame(
        frame, question(urgency_task(smollm2, "reply"), smollm2, {"text": "text"}, "u")
    )
    right = sum(answered["u"] == ["high"] * 6 + ["low"] * 6)
    print(f"\nurgency: {right} of 12 right, always one label 6")
    assert right >= 9
