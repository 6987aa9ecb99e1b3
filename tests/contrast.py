"""The contrast of every text of a page, as WCAG 2.2 counts it."""

from __future__ import annotations

import re
from typing import Any

TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || element.closest("script,style,noscript,.skip,:disabled,option")) continue;
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (!box.width || !box.height || style.visibility === "hidden" || style.display === "none") continue;
    const backs = [];
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) {
      const own = getComputedStyle(at);
      opacity *= parseFloat(own.opacity);
      if (!(at instanceof SVGElement)) backs.push(own.backgroundColor);
    }
    const ink = element instanceof SVGElement ? style.fill : style.color;
    found.push({ text: node.textContent.trim().slice(0, 40), ink, backs, opacity });
  }
  return found;
}"""


def rgba(text: str) -> tuple[float, ...]:
    numbers = [float(number) for number in re.findall(r"[\d.]+", text)]
    return (*numbers[:3], numbers[3] if len(numbers) > 3 else 1.0)


def over(top: tuple[float, ...], below: tuple[float, ...]) -> tuple[float, ...]:
    alpha = top[3]
    return (*(alpha * a + (1 - alpha) * b for a, b in zip(top[:3], below[:3], strict=True)), 1.0)


def luminance(colour: tuple[float, ...]) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [part / 255 for part in colour[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(found: dict[str, Any]) -> float:
    back: tuple[float, ...] = (255.0, 255.0, 255.0, 1.0)
    for layer in reversed(found["backs"]):
        back = over(rgba(layer), back)
    ink = rgba(found["ink"])
    lights = sorted((luminance(over((*ink[:3], ink[3] * found["opacity"]), back)), luminance(back)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)
