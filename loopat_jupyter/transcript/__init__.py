"""A turn as text for people: the data model, its builder, and the renderers.

:mod:`.turn` builds a :class:`~.turn.TranscriptTurn` from a turn's events; :mod:`.markdown`,
:mod:`.json` and :mod:`.notebook` write turns as documents. The server feeds the builder the stored
events, a notebook the events of the client; both use the same renderers.

Everything here is pure, works on one turn at a time (so a long loop needs no more memory than its
longest turn), and may take long: call it off the event loop. It imports nothing else of the
package, and this module imports nothing at all, so that each face loads only what it uses.

What an agent wrote, and what its tools printed, is untrusted. :mod:`.markdown_sanitizer` and
:mod:`.escape` leave it without HTML, images, and links to anything but the web; :mod:`.redaction`
removes tokens and paths of the host.
"""
