"""The negotiation of permessage-deflate (RFC 7692 section 7.1): offers and answers.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

from .deflate import Deflate, DeflateExtension

__all__ = ["accepted_deflate", "negotiate_deflate", "offer_deflate"]

#: The values of a window (RFC 7692 section 7.1.2): no leading zeros.
_WINDOWS = {str(bits): bits for bits in range(8, 16)}


def negotiate_deflate(
    offers: list[str], options: Deflate, max_message_size: int
) -> tuple[DeflateExtension, str] | None:
    """Accept the first of a client's offers that is possible.

    Returns the extension, and the value of the header that answers; None to accept no offer.
    """
    for offer in offers:
        if _is_deflate(offer):
            extension = DeflateExtension(options, max_message_size)
            answer = _accept(extension, offer)
            if answer is not None:
                return extension, "; ".join([extension.name, *answer])
    return None


def _accept(extension: DeflateExtension, offer: str) -> list[str] | None:
    """The parameters of our answer to an offer; None to decline it."""
    asked, ours = _parameters(offer), extension.options
    if asked is None:
        return None
    answer = []
    if "server_no_context_takeover" in asked or ours.server_no_context_takeover:
        extension.server_no_context_takeover = True
        answer.append("server_no_context_takeover")
    if "client_no_context_takeover" in asked or ours.client_no_context_takeover:
        extension.client_no_context_takeover = True
        answer.append("client_no_context_takeover")
    bits = asked.get("server_max_window_bits")
    if bits is None:
        # Every client can inflate a smaller window than 15, so we use ours. We do not name it,
        # because older clients refuse a parameter that they did not ask for.
        extension.server_max_window_bits = ours.server_max_window_bits
    elif bits < 9:
        return None  # zlib has no window of 8 bits; most clients offer another one as well
    else:
        extension.server_max_window_bits = min(bits, ours.server_max_window_bits)
        answer.append(f"server_max_window_bits={extension.server_max_window_bits}")
    # A client can limit its window only if it offers to (RFC 7692 section 7.1.2.2).
    if "client_max_window_bits" in asked:
        bits = min(asked["client_max_window_bits"] or 15, ours.client_max_window_bits)
        extension.client_max_window_bits = bits
        answer.append(f"client_max_window_bits={bits}")
    return answer


def offer_deflate(options: Deflate) -> str:
    """A client's offers, the best one first: the value of the header of the request.

    The second offer asks nothing of the server's messages. It is for servers that do not know
    ``server_max_window_bits`` or do without it (RFC 7692 section 7.1.3).
    """
    best = (
        f"{DeflateExtension.name}; server_max_window_bits={options.server_max_window_bits}"
        f"; client_max_window_bits={options.client_max_window_bits}"
    )
    fallback = f"{DeflateExtension.name}; client_max_window_bits"
    if options.server_no_context_takeover:
        best += "; server_no_context_takeover"
    if options.client_no_context_takeover:
        best += "; client_no_context_takeover"
        fallback += "; client_no_context_takeover"
    return f"{best}, {fallback}"


def accepted_deflate(answer: str, options: Deflate, max_message_size: int) -> DeflateExtension:
    """The extension that a server's answer to ``offer_deflate()`` has agreed on.

    Every window and kept contexts are accepted: we can inflate them all. Raises ``ValueError``
    for anything that RFC 7692 does not allow as an answer.
    """
    if not _is_deflate(answer):
        raise ValueError(f"{answer!r} was not offered")
    agreed = _parameters(answer)
    if agreed is None or ("client_max_window_bits", None) in agreed.items():
        raise ValueError(f"{answer!r} is not an answer to an offer of permessage-deflate")
    extension = DeflateExtension(options, max_message_size, client=True)
    extension.server_max_window_bits = agreed.get("server_max_window_bits") or 15
    extension.server_no_context_takeover = "server_no_context_takeover" in agreed
    # These two limit what we send, and we may use less than the server allows.
    extension.client_max_window_bits = min(
        agreed.get("client_max_window_bits") or 15, options.client_max_window_bits
    )
    extension.client_no_context_takeover = (
        "client_no_context_takeover" in agreed or options.client_no_context_takeover
    )
    return extension


def _is_deflate(text: str) -> bool:
    return text.partition(";")[0].strip().lower() == DeflateExtension.name


def _parameters(text: str) -> dict[str, int | None] | None:
    """The parameters of an offer or an answer; None if one of them is not in RFC 7692."""
    parameters: dict[str, int | None] = {}
    for part in text.split(";")[1:]:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name in parameters:
            return None
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if equals:
                return None
            parameters[name] = None
        elif name == "client_max_window_bits" and not equals:
            parameters[name] = None
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            bits = _WINDOWS.get(value.strip('"'))
            if bits is None:
                return None
            parameters[name] = bits
        else:
            return None
    return parameters
