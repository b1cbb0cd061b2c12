"""The verb `translate`, with causal language models and with translation models.

The example sentences for base models were written for this project.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from nbllm.engine.prompt import Template, plain
from nbllm.errors import UnsupportedModelError
from nbllm.frame.calls.options import option
from nbllm.frame.calls.verb import Verb
from nbllm.frame.evaluation.request import Baseline, evaluate_answers
from nbllm.frame.prompts.arguments import require
from nbllm.frame.prompts.examples import Examples, Fields, read_examples
from nbllm.frame.prompts.few_shot import chat_template, label_parts
from nbllm.frame.prompts.languages import language_code, language_name
from nbllm.frame.prompts.seq2seq import configured_prefixes, refuse_examples, seq2seq_template
from nbllm.frame.tasks.text import TextTask
from nbllm.wording import counted

if TYPE_CHECKING:
    from nbllm.frame.evaluation.base import Evaluation
    from nbllm.frame.evaluation.request import EvaluationRequest
    from nbllm.models.model import Model

__all__ = ["VERB", "Options", "Translate"]

_EXAMPLE_FIELDS = ("text", "translation")

# The same four sentences in each language, so that any two make a pair.
_SENTENCES: dict[str, tuple[str, ...]] = {
    "English": (
        "The last train leaves at ten past eleven.",
        "My sister has worked at the hospital for six years, and she still likes it.",
        "If it rains tomorrow, the market will be held in the old town hall.",
        "Please send us the signed form before the end of the month.",
    ),
    "German": (
        "Der letzte Zug fährt um zehn nach elf.",
        "Meine Schwester arbeitet seit sechs Jahren im Krankenhaus, und es gefällt ihr noch immer.",
        "Wenn es morgen regnet, findet der Markt im alten Rathaus statt.",
        "Bitte schicken Sie uns das unterschriebene Formular vor Ende des Monats.",
    ),
    "French": (
        "Le dernier train part à onze heures dix.",
        "Ma sœur travaille à l'hôpital depuis six ans, et cela lui plaît toujours.",
        "S'il pleut demain, le marché aura lieu dans l'ancienne mairie.",
        "Veuillez nous envoyer le formulaire signé avant la fin du mois.",
    ),
    "Spanish": (
        "El último tren sale a las once y diez.",
        "Mi hermana trabaja en el hospital desde hace seis años, y todavía le gusta.",
        "Si llueve mañana, el mercado se celebrará en el antiguo ayuntamiento.",
        "Por favor, envíenos el formulario firmado antes de fin de mes.",
    ),
    "Italian": (
        "L'ultimo treno parte alle undici e dieci.",
        "Mia sorella lavora in ospedale da sei anni e le piace ancora.",
        "Se domani piove, il mercato si terrà nel vecchio municipio.",
        "Vi preghiamo di inviarci il modulo firmato entro la fine del mese.",
    ),
    "Portuguese": (
        "O último trem sai às onze e dez.",
        "Minha irmã trabalha no hospital há seis anos e ainda gosta.",
        "Se chover amanhã, a feira será realizada na antiga prefeitura.",
        "Por favor, envie-nos o formulário assinado antes do fim do mês.",
    ),
    "Chinese": (
        "最后一班火车十一点十分开。",
        "我姐姐在医院工作了六年，现在仍然喜欢这份工作。",
        "如果明天下雨，集市就在旧市政厅举行。",
        "请在月底之前把签好字的表格寄给我们。",
    ),
    "Japanese": (
        "最終列車は十一時十分に出ます。",
        "姉は病院で六年働いていて、今でもその仕事が好きです。",
        "明日雨が降ったら、市場は古い市役所で開かれます。",
        "署名した書類を月末までにお送りください。",
    ),
}

_MAX_NEW_TOKENS = 256


@dataclass(frozen=True)
class Options:
    """The options of `Translate`."""

    to: str = option(
        'The target language, by its English name or its code: "German", "zh".',
        "German",
        positional=True,
    )
    source: str | None = option(
        "The language of the texts, by name or code; by default the prompt does not name it.", None
    )
    instruction: str | None = option(
        "The instruction to the model, instead of the built-in one; for an encoder-decoder, the "
        "prefix of its training texts.",
        None,
    )
    examples: Examples | None = option(
        "(text, translation) pairs for the prompt of a causal model; or dicts or a frame with the "
        'names "text" and "translation".',
        None,
    )
    max_new_tokens: int | None = option(
        "The maximum number of tokens of a translation; by default 256, or half of the context if "
        "that is less.",
        None,
    )


class Translate(Verb[Options]):
    """Translate each text.

    A causal model gets an instruction. For a base model, the prompt also has examples for some
    languages, and a translation ends at the first line break. Marian and T5 models get the
    input format of their training. A Marian model that does not state its languages is assumed
    to support yours.

    Raises:
        ColumnError: The column is missing or not text, or a new column would overwrite one.
        FrameError: An encoder-decoder gets examples.
        UnsupportedModelError: The model does not translate, or not between these languages.

    Example:
        >>> df.llm.translate("review", to="Chinese")  # doctest: +SKIP
    """

    name = "translate"
    options = Options

    def example_fields(self, options: Options) -> Fields:
        return _EXAMPLE_FIELDS

    def task(self, model: Model, subject: str, options: Options) -> TextTask:
        require(model, self.name, "causal", "seq2seq")
        max_new_tokens = options.max_new_tokens or min(_MAX_NEW_TOKENS, model.context_length // 2)
        if model.kind == "seq2seq":
            refuse_examples(model, self.name, options.examples)
            template = _seq2seq(model, options.to, options.source, options.instruction)
            return TextTask(self.name, template, max_new_tokens)
        target = language_name(options.to)
        origin = language_name(options.source) if options.source else None
        direction = f"from {origin} into {target}" if origin else f"into {target}"
        instruction, examples = options.instruction, options.examples
        pairs = None if examples is None else read_examples(examples, _EXAMPLE_FIELDS)
        if model.tokenizer.chat_template is not None:
            head = instruction or f"Translate the text {direction}. Write only the translation."
            template = chat_template(model, f"{head}\n\n", pairs or ())
            return TextTask(self.name, template, max_new_tokens)
        parts = label_parts(
            instruction or f"Translate each text {direction}.",
            _pairs(origin, target) if pairs is None else pairs,
            text=origin or "Text",
            answer=target,
        )
        return TextTask(self.name, plain(model.tokenizer, parts), max_new_tokens, stop="\n")

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        return evaluate_answers(
            request,
            metrics=("bleu", "chrf"),
            baseline=Baseline("the text itself", lambda source, answer: source),
        )


VERB = Translate()


def _pairs(origin: str | None, target: str) -> list[tuple[str, str]]:
    """Return sentences with their translations; empty for other languages than `_SENTENCES`."""
    if target not in _SENTENCES or origin == target:
        return []
    known = origin if origin in _SENTENCES else "English" if target != "English" else "German"
    return list(zip(_SENTENCES[known], _SENTENCES[target], strict=True))


def _seq2seq(model: Model, to: str, source: str | None, instruction: str | None) -> Template:
    if instruction:
        return seq2seq_template(model, instruction)
    kind = model.network.config.model_type
    if kind == "marian":
        return seq2seq_template(model, token=_marian_token(model, to, source))
    prefixes = list(configured_prefixes(model).values())
    origin = re.escape(language_name(source)) if source else r"\w+"
    pattern = re.compile(rf"translate {origin} to {re.escape(language_name(to))}: ?")
    found = next((prefix for prefix in prefixes if pattern.fullmatch(prefix)), None)
    if found:
        return seq2seq_template(model, found)
    known = ", ".join(f"{p.strip()!r}" for p in prefixes if p.startswith("translate "))
    raise UnsupportedModelError(
        f"translate does not know how to ask {model.name} ({kind}) for {language_name(to)}: its "
        + (f"configuration knows {known}. " if known else "configuration names no translation. ")
        + "Pass instruction= with the words that it was trained to see before a text, or a "
        "Marian model (opus-mt) of your two languages. Models that take a language code instead "
        "(mBART, M2M100, NLLB) are not supported yet."
    )


def _marian_token(model: Model, to: str, source: str | None) -> str | None:
    """Return the token that selects the target language; None if the model has only one."""
    tokenizer = model.tokenizer
    target_code = language_code(to)
    for language, attribute in ((to, "target_lang"), (source, "source_lang")):
        trained = getattr(tokenizer, attribute, None)
        known = language_code(trained) if trained else None
        if language and known and language_code(language) not in (known, None):
            raise UnsupportedModelError(
                f"{model.name} was trained for {language_name(known)}, not for "
                f"{language_name(language)}. Load the opus-mt model of your two languages."
            )
    tokens: list[str] = getattr(tokenizer, "supported_language_codes", [])
    codes = {token.strip("<>"): token for token in tokens}
    if not codes:
        return None
    for code in (to, target_code):
        if code in codes:
            return codes[code]
    near = get_close_matches(target_code or to, codes, n=3, cutoff=0.3) or sorted(codes)[:5]
    raise UnsupportedModelError(
        f"{model.name} translates into {counted(len(codes), 'language')} by codes of its own, and "
        f"{to!r} is none of them. Pass one of the codes, such as {', '.join(near)}."
    )
