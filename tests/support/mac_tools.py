"""What the Makefile and the scripts may not use, because macOS has older or other tools.

macOS has GNU make 3.81 of 2006, bash 3.2, and BSD's commands. Sources: NEWS of GNU make (what
3.82 to 4.4 brought), CHANGES of bash, the manual pages of FreeBSD and macOS.
"""

import re

# What GNU make knows only since a later version than 3.81: the version, and a pattern in a line
# that is no recipe.
NEWER_MAKE = {
    r"^\.ONESHELL\b": "3.82",
    r"^\.RECIPEPREFIX\b": "3.82",
    r"^\.SHELLFLAGS\b": "3.82",
    r"^\s*(override\s+)?(private|undefine)\b": "3.82",
    r":\s+(override\s+|export\s+)*private\s": "3.82",
    r"^\s*(override\s+|export\s+)*define\s+\S+\s*[:+?]*=": "3.82",
    r"^[^#\t]*?(?<![:!?+=<>])!=": "4.0",
    r"::+=": "4.0",
    r"\$[({](file|guile)\s": "4.0",
    r"^\s*-?load\s": "4.0",
    r"\bMAKE_TERM(OUT|ERR)\b": "4.1",
    r"\.SHELLSTATUS\b": "4.2",
    r"^[^#=]*&::?(\s|$)": "4.3",
    r"^\.EXTRA_PREREQS\b|\.EXTRA_PREREQS\s*[:+?]?=": "4.3",
    r"^[^#=]*:.*\s\.WAIT(\s|$)|^\.WAIT\b": "4.4",
    r"^\.NOTINTERMEDIATE\b": "4.4",
    r"\$[({](intcmp|let)\s": "4.4",
    # A number sign inside a function began a comment until 4.3.
    r"\$[({](shell|call|eval|foreach|if|info)\s.*(?<!\\)#": "4.3",
}
# make 3.81 runs a line without shell characters itself, and finds no program of this name.
BUILTIN = re.compile(r"^[@+-]*\s*(command|type|ulimit|hash|alias|local)\b[^;&|<>()$`*?~'\"]*$")

# What only GNU's commands, bash 4 or no POSIX shell knows, and a reason.
NOT_ON_A_MAC = {
    r"\bsed\b[^|;]*\s-[a-zA-Z]*r\b": "sed -r: BSD's is -E",
    r"\bsed\b[^|;]*\s-[a-zA-Z]*i(?!\s*'')": "sed -i: BSD's takes a suffix",
    r"\bsed\b[^|;]*\\[tn+?|wb]": "sed: \\t, \\n, \\+ and \\| are GNU's",
    r"\bgrep\b[^|;]*\s-[a-zA-Z]*P": "grep -P",
    r"\bgrep\b[^|;]*\\[|+?ws<>]": "grep: \\| and \\w are GNU's",
    r"\bxargs\b[^|;]*\s(-[a-zA-Z]*[rd]\b|--)": "xargs -r and -d",
    r"\bdate\b[^|;]*\s(-d\b|--date|-I|.*%N)": "date -d, -I and %N",
    r"\b(realpath|nproc|tac|timeout|numfmt|shuf|gawk|flock|setsid)\b": "no such program",
    r"\breadlink\b[^|;]*\s-[a-z]*[fem]": "readlink -f: not before macOS 12.3",
    r"\bstat\b[^|;]*\s(-c|--)": "stat -c: BSD's is -f",
    r"\bsort\b[^|;]*\s-[a-zA-Z]*[Vh]\b": "sort -V and -h",
    r"\bfind\b[^|;]*\s-(printf|regextype|readable|executable)": "find -printf",
    r"\b(head|tail)\b[^|;]*\s-[nc]\s*[-+]\d.*": "head -n -1",
    r"\bmktemp\b[^|;]*\s(--|-p\b)": "mktemp --tmpdir and -p",
    r"\bcp\b[^|;]*\s(--|-[a-zA-Z]*[tu]\b)": "cp -t and long options",
    r"\bln\b[^|;]*\s-[a-zA-Z]*[rT]": "ln -r and -T",
    r"\binstall\b\s+-[a-zA-Z]*D": "install -D",
    r"\bdu\b[^|;]*\s-[a-zA-Z]*b": "du -b",
    r"\bps\b[^|;]*\s(--|-C\b)": "ps --sort and -C",
    r"\b(ls|rm|mkdir|touch|wc|cut|tr|expand|base64|sha256sum)\b[^|;]*\s--\w": "a long option",
    r"\b(sha256sum|md5sum)\b": "shasum -a 256",
    r"\bbase64\b[^|;]*\s-w": "base64 -w",
    r"\becho\s+-[neE]": "echo -e and -n: printf",
    r"\b(mapfile|readarray|coproc)\b|\b(declare|local)\s+-[An]|\bwait\s+-n": "bash 4",
    r"\$\{\w+(,,?|\^\^?)\}|\$\{\w+@\w\}|&>>|\|&|;;&": "bash 4",
}
# And what a script for /bin/sh cannot use either.
NOT_POSIX = {
    r"(^|\s)\[\[\s|<<<|(^|\s)[<>]\(|\$'|(^|[^&>])&>": "bash only",
    r"^\s*function\s|\bset\s+-o\s+pipefail|\blocal\s|\bsource\s": "bash only",
}


def make_problems(text: str) -> list[str]:
    """What GNU make 3.81 would not understand in a Makefile."""
    found = []
    for line in joined_lines(text):
        if line.startswith("\t"):
            if BUILTIN.match(line.strip()):
                found.append(f"make 3.81 finds no program: {line.strip()}")
        elif not line.lstrip().startswith("#"):
            found += [
                f"make {version} or newer: {line.strip()}"
                for pattern, version in NEWER_MAKE.items()
                if re.search(pattern, line)
            ]
    return found


def shell_problems(text: str, *, is_posix: bool) -> list[str]:
    """What a Mac's commands would not understand in shell code; also POSIX's sh if asked."""
    patterns = NOT_ON_A_MAC | (NOT_POSIX if is_posix else {})
    return [
        f"{reason}: {line.strip()}"
        for line in joined_lines(text)
        if not line.lstrip().startswith("#")
        for pattern, reason in patterns.items()
        if re.search(pattern, line)
    ]


def joined_lines(text: str) -> list[str]:
    """The lines, each with those that a backslash continues."""
    return re.sub(r"\\\n\s*", " ", text).splitlines()
