"""The widgets :class:`LoopChat` and :class:`ChoicePrompt` for Jupyter.

    from loopat_jupyter.widgets import LoopChat
    LoopChat()                      # a new loop; or LoopChat(loop), LoopChat("loop_…")

How it works. The widget's browser half calls the Jupyter server itself wherever the page comes from
that server (JupyterLab, Notebook 7): it loads history, streams events, sends messages and resolves
choices with the page's own session. So it works while the kernel is busy, restarted or dead.
Elsewhere (VS Code, Colab, a kernel of another server) the same calls go through the kernel
(:mod:`._kernel_bridge`). A turn runs in the server whichever way it is watched.

Invariants. A trait holds a loop's or choice's id and nothing that must not be saved in a notebook:
no token, no address, no path, no text of the conversation. What an agent wrote is untrusted: it
becomes DOM nodes as text or through a sanitiser, and loads nothing from anywhere.

What programs and tests may rely on in the page (roles and names are what people perceive):

===================  =============================================================================
the chat             ``.loopat-chat``, region "Loop chat"; ``data-link`` = connecting, live,
                     reconnecting, failed or stopped; ``data-busy`` = true or false
transcript           role log, "Conversation"; turns ``[data-loopat-turn=<turn id>]`` with
                     ``data-state`` = running, waiting, done, interrupted or error
texts                ``[data-loopat-role=user]`` and ``[data-loopat-role=assistant]``
thinking             ``details.loopat-thinking``
a tool call          ``details[data-loopat-tool=<tool>]``, ``data-state`` = running, ok, failed, cut
a choice             ``[data-loopat-choice=<choice id>]``, ``data-kind`` = permission or question,
                     ``data-state`` = pending, allowed, denied, answered or cancelled; buttons
                     "Allow", "Deny", "Allow and remember for this loop", "Answer"
composer             textbox "Message to the loop", buttons "Send message", "Stop the turn",
                     combobox "Permission mode"
on their way         group "Messages on their way": ``.loopat-waiting`` with ``data-state`` =
                     sending, accepted, queued or failed
earlier              button "Show earlier messages"
announcements        ``[data-loopat-announcer]``, a polite live region
a lone choice        ``.loopat-prompt``, region "Loop choice"
===================  =============================================================================
"""

from __future__ import annotations

from ._chat import LoopChat
from ._prompt import ChoicePrompt

__all__ = ["ChoicePrompt", "LoopChat"]
