"""Sentiment by aspect: what does a text say of the food, and what of the service?

Examples and calibration texts were written for this project. The form of the prompt and the
prior were chosen on 32 reviews written for that: asked for positive, negative or "not
mentioned", SmolLM2-135M told what a text speaks of hardly better than by chance (AUC 0.55 to
0.63), and by the likelihood of a statement about it much better (0.88).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import regex

from nbllm.engine.prompt import Part, plain
from nbllm.errors import LabelError
from nbllm.frame.prompts.arguments import check_names, require
from nbllm.frame.prompts.few_shot import TEXT
from nbllm.frame.tasks.aspects import AspectTask

if TYPE_CHECKING:
    from nbllm.models.model import Model

__all__ = ["aspect_sentiment"]

_OPINIONS = {"positive": "good", "negative": "bad"}  # and how the prompt says it

_EXAMPLES = (
    (
        "The pasta was superb, but it took an hour to arrive.",
        (("food", "good"), ("waiting time", "bad")),
    ),
    (
        "Nobody answered my calls, though the sofa itself is comfortable.",
        (("comfort", "good"), ("support", "bad")),
    ),
    ("The songs are lovely. The jokes are not.", (("music", "good"), ("humour", "bad"))),
    ("A bus stops right outside, which was handy.", (("transport", "good"),)),
)

# Where an aspect is Chinese, since its name is likely after Chinese texts whatever they say.
_CHINESE_EXAMPLES = (
    ("面条很筋道，可惜等了很久。", (("面条", "good"), ("上菜速度", "bad"))),
    ("沙发坐着舒服，但是打电话没人接。", (("舒适度", "good"), ("售后", "bad"))),
    ("歌很好听，笑话不好笑。", (("音乐", "good"), ("笑点", "bad"))),
    ("门口就有公交车站，很方便。", (("交通", "good"),)),
)
_CHINESE_CALIBRATION = (
    "味道好极了，下次还来。",
    "等了半天没人理，气死了。",
    "房间干净，床也很舒服。",
    "电池半天就没电了，后悔买了。",
    "电影节奏紧凑，演员演得很好。",
    "剧情拖沓，看到一半就睡着了。",
    "物流很快，包装也很仔细。",
    "客服一直不回复，太失望了。",
    "手机用了一年，还是很流畅。",
    "衣服洗一次就变形了。",
    "老师讲得清楚，孩子很喜欢。",
    "空调坏了，半夜热得睡不着。",
    "这本书写得真好，一口气读完了。",
    "价格虚高，质量很差。",
    "离地铁近，出门很方便。",
    "排队两个小时，根本不值得。",
    "书有十二章。",
    "星期四送到的，白色的箱子。",
)
_HAN = regex.compile(r"\p{Han}")


def aspect_sentiment(
    model: Model,
    *,
    aspects: Sequence[str],
    calibration: tuple[str, ...],
    instruction: str | None = None,
) -> AspectTask:
    """The task of telling how a text speaks of each aspect, if it does.

    Args:
        aspects: what texts may speak of, in the language of the texts.
        calibration: English texts on many subjects, half of them positive.
        instruction: what to say above the examples.

    Raises:
        LabelError: aspects that are missing, blank, repeated, or not strings.
    """
    require(model, "sentiment with aspects", "causal")
    names = _check_aspects(aspects)
    chinese = any(_HAN.search(name) for name in names)
    head = f"{instruction}\n\n" if instruction else ""
    for text, said in _CHINESE_EXAMPLES if chinese else _EXAMPLES:
        told = " and of ".join(f"{aspect} as {opinion}" for aspect, opinion in said)
        head += f"Review: {text}\nThe review speaks of {told}.\n\n"
    parts = [
        Part("text", f"{head}Review: "),
        Part("field", TEXT),
        Part("text", "\nThe review speaks of"),
    ]
    return AspectTask(
        verb="sentiment",
        template=plain(model.tokenizer, parts),
        aspects=names,
        opinions=tuple(_OPINIONS),
        statements=tuple(f" {name} as {word}" for name in names for word in _OPINIONS.values()),
        calibration=_CHINESE_CALIBRATION if chinese else calibration,
    )


def _check_aspects(aspects: Sequence[str]) -> tuple[str, ...]:
    names = check_names(aspects, "aspects", "aspect")
    if not names:
        raise LabelError("aspects is empty. Name one or more: aspects=['food', 'service'].")
    return names
