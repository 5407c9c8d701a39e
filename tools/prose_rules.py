"""The expressions that `prose.py` finds, each with the plain technical English to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """An expression that does not belong in the project's prose."""

    name: str
    pattern: re.Pattern[str]
    advice: str


def _rule(name: str, pattern: str, advice: str) -> Rule:
    """Make a rule. A space of the pattern matches a line break, too, also within a comment."""
    return Rule(name, re.compile(pattern.replace(" ", r"[\s#]+"), re.IGNORECASE), advice)


_AFTER_NO = "longer|more|less|other|greater|later|earlier|faster|slower|larger|way|need|space|such|guarantee"
_COMPOUND = r"log|file|message|frame|part|mode|editor|format|field|column|protocol|response|or|and|that looks"

RULES = (
    _rule(
        "tell",
        r"\b(is|are|was|were|be|been|being|gets?) told\b|\b(tells|telling)\b",
        "is notified, reports, returns, publishes",
    ),
    _rule("whoever", r"\bwho(so)?ever\b|\bwho calls\b|\bwhat calls\b", "the caller, the client, the user"),
    _rule("somebody", r"\b(somebody|someone|anybody)( else)?\b", "another process, a user, the caller"),
    _rule("nobody", r"\bnobody\b|\bno one\b", "no process, no user"),
    _rule(
        "is no",
        rf"(?<!there\s)\b(is|are|was) no (?!({_AFTER_NO})\b)\w+",
        "is not a valid X, is not an X",
    ),
    _rule(
        "is none",
        r"(?<!there\s)\b(is|are) (?-i:none)\b(?! of)|\b(has|have) (?-i:none)\b",
        "there is no X, does not have an X",
    ),
    _rule(
        "a text",
        rf"\b(a|an|one|each|every|another|no) text\b(?! ({_COMPOUND})\b)|(?<!help\s)\btexts\b(?!\.)",
        "a string",
    ),
    _rule("number of seconds that", r"\bnumber of seconds that\b", "seconds until"),
    _rule("of its own", r"\bof (its|one's|their|your|our|his) own\b", "its own, custom, separate"),
    _rule(
        "stands in",
        r"\b(stands?|stood) (in|at|there|beside|below|above|as|still|behind|before)\b",
        "is in, is next to, is below",
    ),
    _rule("lies in", r"\bl(ies|ie|ay) (beside|below|in|on|at|above|there)\b", "is in, is next to, is below"),
    _rule("take note", r"\btak(e|es|ing) note\b", "record"),
    _rule(
        "let X do",
        r"\blet (the|a|an|it|them|this|that|each|every|others|its|whoever|code)\b",
        "make X do, allow X to do",
    ),
    _rule("for ever", r"\bfor ever\b", "forever, indefinitely"),
    _rule(
        "archaism",
        r"\b(by and by|thither|hence|thereof|wherein|whereupon|oneself|upon|amongst|whilst|bethink)\b"
        r"|\b(lest|shall|whence|hitherto|in vain|nought|ought)\b",
        "the present-day term",
    ),
    _rule("heed", r"\bheed(s|ed|ing)?\b|\bharken\b|\bhear(s|d)? of\b", "follow, obey, be notified of"),
    _rule("for a living", r"\bfor a living\b", "say what the process does"),
    _rule("comes to nothing", r"\bcom(e|es|ing) to nothing\b|\bcame to nothing\b", "has no effect, fails"),
    _rule("in good order", r"\bin good order\b", "cleanly, gracefully"),
    _rule("over there", r"\bover there\b", "on the server, on the remote host"),
    _rule("goes on", r"\bgo(es)? on\b|\bwent on\b|\bgoing on\b", "continues"),
    _rule("carry on", r"\bcarr(y|ies|ied|ying) on\b", "continue, resume"),
    _rule("takes up", r"\b(takes?|took|taken|taking) up\b", "resume, start, handle"),
    _rule("gives up", r"\bgiv(en?|es|ing) (it|them|trees?|the trees?) up\b", "release"),
    _rule("what became of", r"\bwhat (became|has become|becomes) of\b", "the outcome of, the result of"),
    _rule("as it is", r"\bas (it is|they are)\b(?=[.,;])", "unchanged; or say what is true"),
    _rule("anew", r"\banew\b|\bafresh\b", "again"),
    _rule("nothing but", r"\bnothing but\b|\bnothing else\b|\bbut for (?!the\b)", "only, no other, except"),
    _rule("goes with it", r"\bgo(es)? with it\b", "say what happens"),
    _rule("in its stead", r"\bin (its|their) stead\b", "instead"),
    _rule("every one of", r"\bevery one of\b", "each"),
    _rule("of old", r"\bof old\b|\bof late\b", "earlier, recently"),
    _rule("is to be", r"\b(is|are|was|were) to be\b", "must be, will be"),
    _rule("need not", r"\bneeds? not\b", "does not have to"),
    _rule("not any more", r"\bnot any ?more\b|\bno more(?=[.,;])", "no longer"),
    _rule("ends well", r"\bends? well\b|\bended well\b", "succeeds"),
    _rule("mend", r"\bmend(s|ed|ing)?\b", "fix, repair"),
    _rule("such a one", r"\bsuch a one\b|\bsuch as is\b|\bthe like\b", "repeat the noun; and so on"),
    _rule("goes by", r"\bgo(es)? by\b", "uses, follows, depends on"),
    _rule("what is there", r"\bwhat is there\b|\bwhat there is\b", "name the thing"),
    _rule("can be had", r"\bbe had\b|\bfor want of\b", "is available, for lack of"),
    _rule("asks to be", r"\basks? to be\b", "requests that"),
    _rule(
        "say whether",
        r"\A\W*(Say|Tell) (whether|how|what|that|why|which|if|so)\b",
        "Return whether ..., Return ...",
    ),
)
