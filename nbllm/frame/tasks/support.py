"""How well a text supports an answer: whether it holds one, and whether this one is right.

A text that answers a question makes the question likely. So the contrast of the question's
likelihood with the text and without one says whether the text holds an answer, and how much of
that contrast the answer's own sentence has says whether the answer was taken from the right place.
The likelihood of the answer, which a small model gives to anything, comes third.

Measured with SmolLM2-135M on SQuAD, titles that were not reported on: the contrast of the question
tells paragraphs with an answer from those of other titles with an AUC of 0.997, and from others of
the same title with 0.94. The contrast of the generated answer's likelihood has 0.77 and 0.67, and
the likelihood of the refusal 0.56 and 0.56.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from nbllm.frame.tasks.base import logistic

__all__ = ["CALIBRATION", "Support", "fit_presence", "is_kept"]

# Weights of the probability that an answer is right, if the text holds one. Fitted by
# benchmarks/bench_answer.py on answers of SmolLM2-135M.
_BIAS, _SENTENCE, _LIKELIHOOD, _REPEATED = -0.93, 1.82, 0.22, -2.26

_LEAST_LIFT = 0.3  # nats per token; a share of less is noise

_RIDGE = 1.0  # of the logistic regression's slope: the classes may be separable
_STEPS = 30


@dataclass(frozen=True)
class Support:
    """What a model's likelihoods say of an answer and its text."""

    # Log-likelihood of the question with the text less that without one, per token, in nats.
    lift: float
    sentence_lift: float  # the same of the sentence that holds the answer; 0 where none does
    likelihood: float  # log-likelihood of the answer after text and question, in nats
    repeated: float  # 1 where the answer is words of the question, else 0

    @property
    def numbers(self) -> list[float]:
        """The fields in their order, as JSON."""
        return [float(number) for number in astuple(self)]

    @property
    def sentence_share(self) -> float:
        """How much of the text's lift its sentence has, from -1 to 1.5."""
        return min(1.5, max(-1.0, self.sentence_lift / max(self.lift, _LEAST_LIFT)))

    def presence(self, fitted: Sequence[float]) -> float:
        """Return the log-odds that the text holds an answer to the question.

        Args:
            fitted: Intercept and slope from `fit_presence`.
        """
        intercept, slope = fitted
        return intercept + slope * self.lift

    def score(self, fitted: Sequence[float]) -> float:
        """Return the probability that the answer is right.

        It is the product of the probabilities that the text holds an answer, and that this is it.

        Args:
            fitted: Intercept and slope from `fit_presence`.
        """
        right = (
            _BIAS
            + _SENTENCE * self.sentence_share
            + _LIKELIHOOD * self.likelihood
            + _REPEATED * self.repeated
        )
        return logistic(self.presence(fitted)) * logistic(right)


def is_kept(support: Support, fitted: Sequence[float], threshold: float | None) -> bool:
    """Return whether an answer is given, instead of null.

    Args:
        support: The support of the answer.
        fitted: Intercept and slope from `fit_presence`.
        threshold: The minimum score; None keeps what the text more likely holds than not.
    """
    if threshold is None:
        return support.presence(fitted) >= 0
    return support.score(fitted) >= threshold


def fit_presence(with_answer: Sequence[float], without: Sequence[float]) -> list[float]:
    """Return intercept and slope of the log-odds that a text holds an answer, given its lift.

    Logistic regression by Newton's method.

    Args:
        with_answer: The lift of texts that answer their questions.
        without: The lift of texts that do not.

    Example:
        >>> intercept, slope = fit_presence([2.0, 3.0], [0.0, 1.0])
        >>> round(-intercept / slope, 3)
        1.5
    """
    lifts = np.array([*with_answer, *without])
    truth = np.repeat([1.0, 0.0], [len(with_answer), len(without)])
    design = np.stack([np.ones_like(lifts), lifts], axis=1)
    ridge = np.diag([0.0, _RIDGE])
    weights: NDArray[np.float64] = np.zeros(2)
    for _ in range(_STEPS):
        chance = np.array([logistic(float(odds)) for odds in design @ weights])
        gradient = design.T @ (truth - chance) - ridge @ weights
        curvature = (design.T * (chance * (1 - chance))) @ design + ridge
        weights = weights + np.linalg.solve(curvature, gradient)
    return [float(weight) for weight in weights]


# Texts with questions that they answer, written for this project; names and facts are invented.
# A question of one text is also asked of another, which does not answer it.
CALIBRATION: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "The Lindqvist Museum of Clocks stands on the east bank of the river Tarn in Velmora. "
        "It was founded in 1931 by Astrid Lindqvist, a watchmaker's daughter, who left it 420 "
        "clocks and her house. The oldest piece, a tower clock of wrought iron, was made "
        "around 1540 for the church of Saint Odo. The museum closed for six years after the "
        "flood of 1987, and most of the wooden cases had to be replaced. Today it is open "
        "from Wednesday to Sunday, and some 38,000 people visit it each year.",
        (
            "Who founded the Lindqvist Museum of Clocks?",
            "When was the oldest clock of the museum made?",
            "For how long was the museum closed after the flood?",
            "How many people visit the museum each year?",
        ),
    ),
    (
        "Photographs of the moth Sarpedra alba had been in a drawer of the university of "
        "Quillota for decades before anyone noticed that it was a species of its own. In 2014 "
        "the student Ramiro Soto compared its wings with those of the common marsh moth and "
        "found that their veins differ. The moth lives only in reed beds above 2,000 metres, "
        "where its caterpillars feed on the roots of a sedge. Females fly for three nights at "
        "most and die after laying their eggs. Draining of the reed beds for pasture is the "
        "greatest danger to it.",
        (
            "Who found that the moth was a species of its own?",
            "What do the caterpillars of Sarpedra alba feed on?",
            "For how many nights do the females fly?",
            "What is the greatest danger to the moth?",
        ),
    ),
    (
        "The treaty of Harrow Bridge ended eleven years of war between the towns of the coast "
        "and the lords of the hills. It was signed on 9 March 1462 in a mill, because neither "
        "side would enter the camp of the other. The towns kept the right to tax salt, while "
        "the lords got back the forests that they had lost in the second year of the war. "
        "Bishop Hamon, who had led the talks, received nothing, and complained of it in four "
        "letters to the king. The peace lasted for two generations.",
        (
            "Where was the treaty of Harrow Bridge signed?",
            "What did the towns keep the right to tax?",
            "Who led the talks before the treaty?",
            "How long did the war last?",
        ),
    ),
    (
        "Cordelite is a ceramic that hardens when it is cooled slowly and stays soft when it "
        "is cooled fast, the opposite of most steels. Engineers of the firm Bexley and Rao "
        "use it for the seals of pumps, because it does not swell in hot oil. It melts at "
        "1,310 degrees and is made from clay, magnesium oxide and a little boron. A kilogram "
        "costs about nine times as much as a kilogram of alumina. The first patent for the "
        "material was granted in Japan in 1978 and ran out twenty years later.",
        (
            "At what temperature does cordelite melt?",
            "What do Bexley and Rao use cordelite for?",
            "In which country was the first patent for cordelite granted?",
            "Why is cordelite used for seals?",
        ),
    ),
    (
        "In the final of the 1996 Northern Cup, Port Esker beat Dunmore Rovers by three goals "
        "to two in front of 41,200 spectators. Dunmore led at half time through goals by "
        "Keane and Olufemi. After the break the Danish striker Mads Thorup, who had come on "
        "for the injured captain, scored all three goals of Port Esker, the last of them in "
        "the 89th minute. The referee, Paula Ferrante, was the first woman to lead a final. "
        "It remains the only cup that Port Esker has won.",
        (
            "Which team lost the final of the 1996 Northern Cup?",
            "Who scored three goals for Port Esker?",
            "Who was the referee of the final?",
            "In which minute did Thorup score his last goal?",
        ),
    ),
    (
        "The parliament of Osterland has two chambers. The House of Districts has 84 members, "
        "two for each district, who are elected for six years; the Assembly has 199, elected "
        "for four years by all citizens over the age of seventeen. A law needs a majority in "
        "both. If they disagree, a committee of twelve members of each chamber looks for a "
        "compromise within ninety days. The president may return a law once, but has no veto. "
        "Since the reform of 2003 all sessions are broadcast on the radio.",
        (
            "How many members does the Assembly have?",
            "For how long are members of the House of Districts elected?",
            "Who may return a law once?",
            "What has happened to all sessions since 2003?",
        ),
    ),
    (
        "Ilse Marrable began to compose at the age of nine, when her uncle gave her a broken "
        "harmonium. Her first symphony, the Winter Roads, was performed in Leeds in 1924 "
        "under Harold Finch and was a failure: half of the audience left after the second "
        "movement. She earned her living as a teacher at a school for sailors in Hull, and "
        "wrote mainly for its brass band. Her opera The Salt Wife, finished in 1951, is now "
        "played more often than any other English opera of its decade.",
        (
            "What did her uncle give Ilse Marrable?",
            "Where was the Winter Roads first performed?",
            "How did Marrable earn her living?",
            "When was The Salt Wife finished?",
        ),
    ),
    (
        "The valley of Ammerat gets its water from a tunnel of 14 kilometres that farmers dug "
        "by hand between 1880 and 1902. It begins at a spring on Mount Keffa and loses only a "
        "metre of height per kilometre. Every family has the right to forty minutes of water "
        "in each week, which a guard measures with a copper bowl that has a hole in its "
        "floor. In dry years the turns of the melon fields are cancelled first. The tunnel is "
        "cleaned every autumn by all men and women of the valley under sixty.",
        (
            "How long is the tunnel of Ammerat?",
            "What does the guard measure the water with?",
            "Which turns are cancelled first in dry years?",
            "When is the tunnel cleaned?",
        ),
    ),
    (
        "Fever of the Lowlands was for a long time thought to come from bad air. The "
        "physician Teodora Vance showed in 1889 that it is carried by a mite that lives on "
        "field mice: in houses with cats there was one case for every fourteen in houses "
        "without. Patients have a rash on the wrists, a high temperature for five days and "
        "pain behind the eyes. It is treated with tetracyclines, and fewer than one patient "
        "in a thousand dies. A vaccine was tested in Romania but never sold.",
        (
            "What carries Fever of the Lowlands?",
            "Who showed how the fever is carried?",
            "Where do patients have a rash?",
            "What is the fever treated with?",
        ),
    ),
    (
        "The company Greywater Freight was set up by two brothers, Emeka and Chidi Nwosu, "
        "with a single lorry in 1972. It moved its head office from Ibadan to Accra twenty "
        "years later, after it had bought the railway of a closed gold mine. Today it has "
        "2,300 employees and carries mostly cocoa and timber. In 2018 it lost a third of its "
        "contracts when a bridge over the Volta was shut for repairs. Its present head, Abena "
        "Osei, used to drive trains for the company herself.",
        (
            "Who set up Greywater Freight?",
            "Where did the company move its head office to?",
            "What does Greywater Freight mostly carry?",
            "How many employees does the company have?",
        ),
    ),
)
