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
THOUGHT_END = (
    r"</(?:think|thinking|thought|thoughts|reasoning|reflection|seed:think)>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>"
    r"|<\|channel\|>final(?:\s*<\|constrain\|>\w+)?<\|message\|>"
)
"""Ends of reasoning; nothing before the last of them is an answer."""

_UNSEEN = "\ufeff\u200b\u200e\u200f\u061c\u2060\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_THOUGHT_END = re.compile(THOUGHT_END, re.IGNORECASE)
THOUGHT_TAG = re.compile(
    r"</?(?:think|thinking|thought|thoughts|reasoning|reflection|seed:think)>|\[/?THINK\]|◁/?think▷", re.IGNORECASE
)
_SPECIAL = re.compile(SPECIAL)
_SPECIAL_ENDING = re.compile(rf"(?:{SPECIAL})\Z")
_OVER = re.compile(
    r"end|eos|eot|/|think", re.IGNORECASE
)  # not opening marks: what follows an end token, or an unclosed reasoning tag, is not an answer
_NAMES = (
    "label|answer|category|class|classification|result|verdict|antwort|ergebnis|kategorie|réponse|catégorie|étiquette|respuesta"
    "|categoría|etiqueta|risposta|categoria|resposta|antwoord|odpowiedź|svar|cevap|etiket|ответ|категория|метка|відповідь|απάντηση"
    "|答案|回答|答え|答|标签|標籤|类别|類別|分类|分類|ラベル|カテゴリ|정답|답변|답|الإجابة|الجواب|התשובה|תשובה|उत्तर|คำตอบ"
)
_NAME = re.compile(rf"([*_]{{0,3}})(?:final\s+)?(?:{_NAMES})\s*(?::\1|\1\s*:|：\1|\1\s*：)\s*", re.IGNORECASE)
_TAG = re.compile(
    r"<((?:final_?)?answer|label|category|class|classification|result|verdict|output|response)>", re.IGNORECASE
)
_TEX = re.compile(r"\\(?:boxed|fbox|text\w{0,2}|math(?:rm|bf|sf|tt|it))\s*\{")
_JSON_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)
_JSON_NAMES = frozenset({"label", "answer", "category", "class"})
_JSON_REMARKS = frozenset({
    "reason", "reasons", "reasoning", "explanation", "rationale", "justification", "why", "comment", "evidence", "thought",
    "thoughts", "analysis", "confidence", "score", "probability",
})  # fmt: skip


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
    if first in "<[◁" and (special := _SPECIAL.match(text, start, end)) and not _OVER.search(special[0]):
        return special.end(), end
    if first == "<" and (tag := _TAG.match(text, start, end)):
        closing = f"</{tag[1]}>"
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
    """Whether the span is JSON."""
    try:
        json.loads(text[start:end])
    except (ValueError, RecursionError):
        return False
    return True


def json_answer(text: str, start: int, end: int) -> JsonAnswer | None:
    """The text, number or boolean that a JSON object gives as its answer: its only value, or that of label, answer,
    category or class, or its only one beside a reason or a score."""
    values: list[tuple[str, JsonAnswer | None]] = []
    depth, key, colon, expects_value = 0, "", 0, False
    for piece in _JSON_PIECE.finditer(text, start, end):
        mark = piece[0]
        if depth == 1 and expects_value and mark[0] in '"[{,}':
            quoted = mark[0] == '"'
            inside = (piece.start() + 1, piece.end() - 1) if quoted else trim(text, colon, piece.start())
            none = mark[0] in "[{" or (not quoted and text[inside[0] : inside[1]] == "null")
            values.append((key, None if none else JsonAnswer(key, *inside, quoted)))
            expects_value = False
        elif depth == 1 and mark[0] == '"':
            key = mark[1:-1]
        if depth == 1 and mark == ":":
            expects_value, colon = True, piece.end()
        depth += (mark in "{[") - (mark in "}]")
    named = [value for key, value in values if key.casefold() in _JSON_NAMES]
    if len(values) == 1:
        return values[0][1]
    if named:
        return named[0] if len(named) == 1 else None
    others = [value for key, value in values if key.casefold() not in _JSON_REMARKS]
    return others[0] if len(others) == 1 else None
