"""Strings with which an attacker who controls an argument tries to run other code."""

from __future__ import annotations

import itertools

COMMANDS = ("id", "cat /etc/passwd", "touch /tmp/apflow-injected", "sleep 60", "uname -a")
FRAMES = (
    "; {}", "&& {}", "|| {}", "| {}", "& {} &", "$({})", "`{}`", "\n{}\n", "\r\n{}", "'; {}; '", '"; {}; "',
    "$'{}'", '\\"; {} #', "'\\''; {} #", "{{{}}}", "<({})", "> /tmp/x; {}", "${{IFS}}{}", "%0a{}", "a\t{}\tb",
    "!{}", "~{}", "*{}*", "?{}[a-z]", "{} #", "-- {}", "--option={}", "-c {}", "=({})", "<<EOF\n{}\nEOF",
    "\\\n{}", "\u2028{}", "\uff1b{}", "\x1b]0;{}\x07",
)  # fmt: skip
ALONE = (
    "", " ", "  leading and trailing  ", "'", '"', "\\", "\\\\", "$", "$$", "$HOME", "${HOME}", "$0", "$@",
    "`", "#", "!", "!!", "*", "?", "[", "~", "~root", "{a,b}", "%s%n", "\n", "\t", "\r", "\x01\x02\x7f",
    "ünïcødé", "日本語", "🦆", "-", "--", "-rf", "/", "../..", "a=b", "=",
)  # fmt: skip

# Each is one argument, to arrive byte for byte.
INJECTIONS = [frame.format(command) for frame, command in itertools.product(FRAMES, COMMANDS)] + list(ALONE)
