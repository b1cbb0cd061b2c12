"""What nbllm knows of data sets: licence, origin, and how their columns read alike.

Sets of one kind share their column names, so that a notebook runs on any of them:
labelled texts have `text` and `label`, articles have `title`, `text` and `summary`, questions
have `context`, `question` and `answers`, translations have a column a language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["KNOWN", "SHIPPED_FOLDER", "DataSet"]

SHIPPED_FOLDER = Path(__file__).parent / "sets"


@dataclass(frozen=True)
class DataSet:
    """One data set: where it is from, and what to call its columns and labels."""

    name: str
    licence: str
    origin: str
    columns: Mapping[str, str] = field(default_factory=dict)  # name at the origin: name here
    labels: Mapping[int, str] = field(default_factory=dict)  # code at the origin: label here


OWN = "written for nbllm"
POLARITY = {0: "negative", 1: "positive"}
FIVE_STEPS = dict(enumerate(("very negative", "negative", "neutral", "positive", "very positive")))
NONE_STATED = "none stated, for research only"
SST = "Stanford Sentiment Treebank, Socher et al. 2013"
MOVIELENS = "MovieLens: research only, no commercial use", "MovieLens, Harper & Konstan 2015"

_OWN_SETS = (
    "reviews", "articles", "messages", "personal", "stereotypes", "occupations", "reviews_zh",
    "sentences", "questions", "questions_zh", "help_pages", "films", "film_likes", "analogies",
    "word_pairs",
)  # fmt: skip

KNOWN: Mapping[str, DataSet] = {
    known.name: known
    for known in (
        *(DataSet(name, "Apache-2.0", OWN) for name in _OWN_SETS),
        DataSet("passages", "Apache-2.0", f"public domain, and as many {OWN}"),
        DataSet("sst2", NONE_STATED, SST, labels=POLARITY),
        DataSet("sst5", NONE_STATED, SST, labels=FIVE_STEPS),
        DataSet(
            "imdb_5k", NONE_STATED, "Large Movie Review Dataset, Maas et al. 2011", labels=POLARITY
        ),
        DataSet("xsum_500", NONE_STATED, "XSum, Narayan et al. 2018; BBC texts"),
        DataSet("scitldr_abstract", "Apache-2.0", "SciTLDR, Cachola et al. 2020"),
        DataSet("banking77", "CC BY 4.0", "BANKING77, Casanueva et al. 2020"),
        DataSet("clinc150", "CC BY 3.0", "CLINC150, Larson et al. 2019"),
        DataSet(
            "bitext_customer_support",
            "CDLA-Sharing-1.0",
            "Bitext customer support intents",
            columns={"utterance": "text", "intent": "label"},
        ),
        DataSet(
            "wikipedia_movies_1970_2023",
            "CC BY-SA (Wikipedia; attribute through href)",
            "prust/wikipedia-movie-data",
            columns={"overview": "text"},
        ),
        DataSet("squad_v1_dev", "CC BY-SA 4.0", "SQuAD, Rajpurkar et al. 2016"),
        DataSet("xquad_en_zh_de_es", "CC BY-SA 4.0", "XQuAD, Artetxe et al. 2020"),
        DataSet("zh_cmrc2018", "CC BY-SA 4.0", "CMRC 2018, Cui et al. 2019"),
        DataSet("zh_csl_category", "Apache-2.0", "CSL, Li et al. 2022"),
        DataSet("zh_csl_abstract_title", "Apache-2.0", "CSL, Li et al. 2022"),
        DataSet("zh_waimai_10k", NONE_STATED, "SophonPlus/ChineseNlpCorpus", labels=POLARITY),
        DataSet("ntrex_newstest2019", "CC BY-SA 4.0", "NTREX-128, Federmann et al. 2022"),
        DataSet("multi30k_en_de_fr", NONE_STATED, "Multi30K, Elliott et al. 2016"),
        DataSet("stsb_en_zh_de", "several, see the origin", "PhilipMay/stsb-multi-mt"),
        DataSet("crows_pairs", "CC BY-SA 4.0", "CrowS-Pairs, Nangia et al. 2020"),
        DataSet("winobias", "MIT", "WinoBias, Zhao et al. 2018"),
        DataSet("google_analogies", "Apache-2.0", "Mikolov et al. 2013"),
        DataSet("word_similarity", "several, see the origin", "Faruqui & Dyer 2014"),
        DataSet(
            "presidio_pii_generated_large",
            "MIT",
            "microsoft/presidio-research",
            columns={"full_text": "text"},
        ),
        DataSet("movielens_small_movies", *MOVIELENS),
        DataSet("movielens_small_ratings", *MOVIELENS),
    )
}
