"""What models write around an answer, removed one layer at a time to locate the answer."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

PAIRS = {
    '"': '"', "'": "'", "`": "`", "*": "*", "_": "_", "$": "$",
    "“": "”", "‘": "’", "„": "“”", "‚": "‘’", "«": "»", "»": "«", "‹": "›", "›": "‹", "”": "”", "’": "’",
    "(": ")", "[": "]", "{": "}", "<": ">", "⟨": "⟩", "（": "）", "［": "］", "｛": "｝", "＜": "＞",
    "【": "】", "「": "」", "『": "』", "《": "》", "〈": "〉", "〔": "〕", "〖": "〗", "｢": "｣", "﹁": "﹂", "﹃": "﹄",
    "＂": "＂", "＇": "＇", "〝": "〞〟", "´": "´", "❝": "❞", "❛": "❜", "‟": "”",
    "❨": "❩", "❪": "❫", "❬": "❭", "❮": "❯", "❰": "❱", "❲": "❳", "❴": "❵", "⟦": "⟧", "⟪": "⟫", "⟮": "⟯", "⦃": "⦄", "⦅": "⦆",
    "｟": "｠", "〘": "〙", "〚": "〛", "༺": "༻", "༼": "༽", "﴿": "﴾", "﹙": "﹚", "﹛": "﹜", "﹝": "﹞", "︵": "︶", "︷": "︸",
    "︹": "︺", "︻": "︼", "︽": "︾", "︿": "﹀", "﹇": "﹈",
}  # fmt: skip
"""An opening mark, and the marks that close it."""
TERMINALS = ".!…。．！｡،؛۔።।॥։။៕᙮᠃᠉꓿︒﹒﹗⸼܀܁܂‼︕׃߹༎།ฯ๚๛෴჻᥄᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿⳹⳻꘎꛳꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫❕❗፨࠷࠹࠽࠾᜵᜶"
"""One of these may end an answer, in any script; a question mark may not."""
LEADING = " \t\r\n\f\v" + "".join(PAIRS)
"""What may stand before an answer within its first token."""
TRAILING = " \t\r\n\f\v" + "".join(dict.fromkeys("".join(PAIRS.values()))) + TERMINALS
"""What may stand after an answer within its last token."""

SPECIAL = (
    r"<\|[^<>|]{1,40}\|>|<｜[^<>]{1,40}｜>|</?s>|<(?:eos|bos|pad|end_of_turn|start_of_turn)>"
    r"|\[/?(?:INST|THINK|EOS|BOS)\]|◁/?think▷"
)
"""Special tokens as servers write them into text: end tokens, turn markers, reasoning tags."""
_THINKING = (
    r"(?:\w+[:_])?(?:think|thinking|thoughts?|reason|reasoning|reflection|rationale|analysis|scratch_?pad|monologue)"
)
THOUGHT_END = (
    rf"</{_THINKING}>|\[/(?:THINK|REASONING)\]|◁/think▷|<\|/(?:think|thinking|reasoning)\|>|<\|inner_suffix\|>|<unused95>|<channel\|>"
    r"|<\|(?:end_of_thought|thought_end|end_thinking|end_think)\|>"
    r"|<\|channel\|>\s*final\s*(?:<\|constrain\|>\s*\w+\s*)?<\|message\|>"
)
"""Ends of reasoning; nothing before the last of them is an answer."""

_UNSEEN = "\ufeff\u200b\u200e\u200f\u061c\u2060\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_THOUGHT_END = re.compile(THOUGHT_END, re.IGNORECASE)
THOUGHT_TAG = re.compile(rf"</?{_THINKING}>|\[/?(?:THINK|REASONING)\]|◁/?think▷", re.IGNORECASE)
_BARE_CHANNELS = re.compile(r"\s*(?:assistant)?analysis(?=[A-Z\s]).*assistant(?:final|<\|channel\|>final)", re.DOTALL)
"""The channels of gpt-oss where the server left the special tokens out: "analysisThe user asks ... assistantfinalwork"."""
_TURN = re.compile(
    r"(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|start\|>|<\|begin\|>)\s*(?:assistant|model)\s*?"
    r"(?:<\|end_header_id\|>|<\|message\|>|<\|content\|>|\n)"
)
"""The head of the model's turn, where the server returned the prompt's last line with the answer."""
_LINE_MARK = re.compile(r"(?:#{1,6}|[-*+•>])[ \t]+(?=[^\w\s]*[^\W\d])")
"""Markdown's heading, list entry or quotation; not before a digit, where a dash may be a minus."""
_SPECIAL = re.compile(SPECIAL)
_SPECIAL_ENDING = re.compile(rf"(?:{SPECIAL})\Z")
_OVER = re.compile(
    r"end|eos|eot|/|think", re.IGNORECASE
)  # not opening marks: what follows an end token, or an unclosed reasoning tag, is not an answer
_NAMES = (
    "label|answer|category|class|classification|result|verdict|prediction|output|response|sentiment|topic|intent|rating|grade|decision"
    "|antwort|ergebnis|kategorie|réponse|catégorie|étiquette|respuesta"
    "|categoría|etiqueta|risposta|categoria|resposta|antwoord|odpowiedź|svar|cevap|etiket|ответ|категория|метка|відповідь|απάντηση"
    "|答案|回答|答え|答|标签|標籤|类别|類別|分类|分類|ラベル|カテゴリ|정답|답변|답|الإجابة|الجواب|התשובה|תשובה|उत्तर|คำตอบ"
)
_NAME = re.compile(
    rf"([*_]{{0,3}})(?:(?:final|predicted)\s+)?(?:{_NAMES})\s*(?::\1|\1\s*:|：\1|\1\s*：)\s*", re.IGNORECASE
)
_TAG = re.compile(
    r"(?P<open>[<\[])(?P<name>(?:final_?)?answer|label|category|class|classification|result|verdict|output|response|prediction|decision"
    r"|sentiment|topic|intent|choice|b|strong|i|em|code|p|span)(?P<close>[>\]])",
    re.IGNORECASE,
)
_CALL_TAG = ("<tool_call>", "</tool_call>")
_CALL = re.compile(
    r"""\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"([^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(\{.*\})\s*\}\Z""",
    re.DOTALL,
)
"""A tool call that the server left in the text: its function's name, and its arguments."""
_TEX = re.compile(r"\\(?:boxed|fbox|text\w{0,2}|math(?:rm|bf|sf|tt|it))\s*\{")
_QUOTED = r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'"
_JSON_PIECE = re.compile(rf"{_QUOTED}|[{{}}\[\]:,]", re.DOTALL)
_PYTHON_DICT = re.compile(
    rf"\{{\s*(?:(?:{_QUOTED}|\w+)\s*:\s*(?:{_QUOTED}|[Tt]rue|[Ff]alse|None|null|-?\d[\d.eE+-]*)\s*(?:,\s*|(?=\}})))+\}}\Z",
    re.DOTALL,
)
"""A flat object as Python and JavaScript write it: single quotes, names without quotes, a comma before the end."""
_JSON_NAMES = frozenset({"label", "answer", "category", "class"})
_JSON_CHOSEN = frozenset(
    {"final", "predicted", "chosen", "selected", "assigned", "best", "correct", "primary", "output"}
)
_JSON_REMARKS = frozenset({
    "reason", "reasons", "reasoning", "explanation", "rationale", "justification", "why", "comment", "evidence", "thought",
    "thoughts", "analysis", "confidence", "score", "probability",
})  # fmt: skip


_JSON_OTHERS = frozenset({
    "not", "non", "no", "never", "neither", "exclude", "excluded", "reject", "rejected", "wrong", "incorrect", "invalid", "unlikely",
    "other", "alternative", "previous", "second", "runner",
})  # fmt: skip
"""Words in a JSON name whose value is another label than the answer."""
_NAME_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
DENIES = re.compile(
    r"(?:not|non|no|never|neither|none|without|ir\w+|un\w+|dis\w+|mis\w+|incorrect|invalid|inappropriate|false|wrong"
    r"|(?:is|are|was|does|do|did|has|wo)nt?|lack\w*|absent|exclude\w*|reject\w*|refus\w*|fail\w*|error|negative"
    r"|safe|clean|clear|benign|harmless|ok|okay|fine)\Z",
    re.IGNORECASE,
)
"""Words in a JSON name whose yes may mean no: they deny, or say that nothing was found."""


class JsonAnswer(NamedTuple):
    """The value that a JSON object gives as its answer."""

    key: str
    start: int
    end: int
    """Span of the value in the text, without quotes."""
    quoted: bool


def behind_thoughts(text: str) -> int:
    """Where the text after the last reasoning block begins."""
    start = 0
    for thought in _THOUGHT_END.finditer(text):
        start = thought.end()
    if start == 0 and (bare := _BARE_CHANNELS.match(text)):
        start = bare.end()
    return start


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space, zero-width marks and marks of direction at its ends."""
    while start < end and (text[start].isspace() or text[start] in _UNSEEN):
        start += 1
    while start < end and (text[end - 1].isspace() or text[end - 1] in _UNSEEN):
        end -= 1
    return start, end


def peel(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without one layer (a special token, a pair of marks, TeX, a tag, a name), or None. Not JSON, not a final mark."""
    first, last = text[start], text[end - 1]
    if last in ">]▷" and (special := _SPECIAL_ENDING.search(text, start, end)) and special.start() >= start:
        return start, special.start()
    if first == "<" and (turn := _TURN.match(text, start, end)):
        return turn.end(), end
    if first in "#-*+•>" and (mark := _LINE_MARK.match(text, start, end)):
        return mark.end(), end
    if first in "<[◁" and (special := _SPECIAL.match(text, start, end)) and not _OVER.search(special[0]):
        return special.end(), end
    if first == "<" and text.startswith(_CALL_TAG[0], start, end) and text.endswith(_CALL_TAG[1], start, end):
        inner = start + len(_CALL_TAG[0]), end - len(_CALL_TAG[1])
        return inner if inner[0] < inner[1] and _CALL_TAG[0] not in text[slice(*inner)] else None
    if first in "<[" and (tag := _TAG.match(text, start, end)):
        closing = f"{tag['open']}/{tag['name']}{tag['close']}"
        return (tag.end(), end - len(closing)) if text[start:end].casefold().endswith(closing.casefold()) else None
    if end - start > 1 and last in PAIRS.get(first, ""):
        return _fenced(text, start, end) or (start + 1, end - 1)
    if first == "\\":
        return _tex(text, start, end)
    name = _NAME.match(text, start, end)
    return None if name is None else (name.end(), end)


def _tex(text: str, start: int, end: int) -> tuple[int, int] | None:
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening, start) and text.endswith(closing, start + 2, end):
            return start + 2, end - 2
    box = _TEX.match(text, start, end)
    if box is None or text[end - 1] != "}":
        return None
    depth = 1
    for place in range(box.end(), end):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return (box.end(), place) if place == end - 1 else None
    return None


def _fenced(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Content of a fenced block, without the opening line, which may name a language."""
    if not (text.startswith("```", start, end) and text.endswith("```", start + 3, end)):
        return None
    line = text.find("\n", start, end)
    named = line > 0 and (text[start + 3 : line].strip() or "x").isalnum()
    return (line + 1, end - 3) if named else None


def is_json(text: str, start: int, end: int) -> bool:
    """Whether the span is JSON, or a flat object as other languages write it."""
    try:
        json.loads(text[start:end])
    except (ValueError, RecursionError):
        return text[start] == "{" and _PYTHON_DICT.match(text, start, end) is not None
    return True


def unescaped(text: str, start: int, end: int) -> str:
    """What the quoted text between these places says; the text itself where its escapes are not those of JSON."""
    try:
        return str(json.loads(f'"{text[start:end]}"'))
    except ValueError:
        return text[start:end]


def call_arguments(text: str, start: int, end: int) -> tuple[str, int, int] | None:
    """The function's name and the span of its arguments where the span is a tool call in JSON; None for any other object."""
    call = _CALL.match(text, start, end)
    return None if call is None or not is_json(text, *call.span(2)) else (call[1], *call.span(2))


def denies(name: str) -> bool:
    """Whether a JSON name has a word by which its yes may mean no."""
    return any(DENIES.match(word) for word in _NAME_WORDS.findall(name))


def json_answer(text: str, start: int, end: int) -> JsonAnswer | None:
    """The text, number or boolean that a JSON object gives as its answer: its only value, or that of label, answer,
    category or class, or its only one beside a reason or a score. A reason alone is no answer, nor is what was not chosen."""
    values: list[tuple[str, JsonAnswer | None]] = []
    depth, key, colon, expects_value = 0, "", 0, False
    last = start
    for piece in _JSON_PIECE.finditer(text, start, end):
        mark = piece[0]
        if depth == 1 and expects_value and mark[0] in "\"'[{,}":
            quoted = mark[0] in "\"'"
            inside = (piece.start() + 1, piece.end() - 1) if quoted else trim(text, colon, piece.start())
            none = mark[0] in "[{" or (not quoted and text[inside[0] : inside[1]] in ("null", "None"))
            values.append((key, None if none else JsonAnswer(key, *inside, quoted)))
            expects_value = False
        elif depth == 1 and mark[0] in "\"'":
            key = mark[1:-1]
        if depth == 1 and mark == ":":
            key = key or text[last : piece.start()].strip()  # a name without quotes
            expects_value, colon = True, piece.end()
        if depth == 1 and mark == ",":
            key = ""
        last = piece.end()
        depth += (mark in "{[") - (mark in "}]")
    named = [value for key, value in values if _is_name(key)]
    if named:
        return named[0] if len(named) == 1 else None
    others = [value for key, value in values if key.casefold() not in _JSON_REMARKS]
    if (
        len(others) != 1
        or others[0] is None
        or _JSON_OTHERS & {w.casefold() for w in _NAME_WORDS.findall(others[0].key)}
    ):
        return None
    return others[0]


def _is_name(key: str) -> bool:
    """Whether a JSON name says that its value is the answer: ``label``, ``final_answer``, ``predictedClass``."""
    *before, last = [word.casefold() for word in _NAME_WORDS.findall(key)] or [""]
    return key.casefold() in _JSON_NAMES or (last in _JSON_NAMES and bool(before) and _JSON_CHOSEN.issuperset(before))
