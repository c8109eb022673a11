"""Every bound of what gossip accepts, keeps and sends. At a bound the stated thing happens, never growth."""

MEMBERS_MAX = 4_096
"""Members in the table; further unknown ids are not learnt (counted)."""
DEAD_PEERS_MAX = 4_096
"""Remembered deaths; the oldest is forgotten first."""
REVOKED_MAX = 4_096
"""Ids that the core refuses by itself; further ones are refused by their credential alone."""
DATAGRAM_BYTES_MAX = 1_150
"""Payload of one DATAGRAM frame: a 1,200-byte QUIC packet less header, tag and frame type."""
STREAM_FRAME_BYTES_MAX = 1_048_576
"""One request or answer on a stream; longer ones are refused unread."""
BODY_BYTES_MAX = 16_384
"""An encoded announcement. A subject that has more leaves out models on disk, the last first."""
CREDENTIAL_BYTES_MAX = 512
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
ID_BYTES = 32
DIGEST_BYTES = 16
NAME_CHARS_MAX = 128
ADDRESS_CHARS_MAX = 64
ADDRESSES_MAX = 8
SERVING_MAX = 16
SPLITS_MAX = 4
"""Splits that one node announces as host, or lends itself to."""
SPLIT_WORKERS_MAX = 32
"""Workers of one split: beyond, each further hop costs more than its memory brings."""
MODELS_ON_DISK_MAX = 200
MODELS_WANTED_MAX = 32
RTTS_MAX = 16
RATES_MAX = 32
CAPABILITIES_MAX = 8
LOAD_BYTES_MAX = 256
UPDATES_PER_DATAGRAM_MAX = 24
NOTICES_PER_DATAGRAM_MAX = 2
NOTICE_BYTES_MAX = 512
NOTICES_MAX = 256
"""Notices kept; those that expire first are dropped first."""
TOPIC_CHARS_MAX = 160
RECORDS_PER_EXCHANGE_MAX = 512
DIGESTS_MAX = MEMBERS_MAX + DEAD_PEERS_MAX
WANTS_MAX = 4_096
"""Bodies waiting to be pulled; further ones are left to the next sync."""
BROADCASTS_MAX = 2_048
"""Updates waiting to be spread; the one sent most often is dropped first (sync repairs)."""
ACCUSERS_MAX = 8
"""Accusers kept per suspicion; more do not shorten it further."""
RELAYS_IN_FLIGHT_MAX = 32
"""Probes run for others at the same time; further ones get a nack at once."""
VERIFICATIONS_IN_FLIGHT_MAX = 32
"""Deaths and returns being verified by a round trip; further ones wait in order."""
LINKS_MAX = 64
"""Links that are probed. Further ones serve requests only."""
URGENT_FLOODS_PER_S_MAX = 20
"""Deaths and leaves forwarded at once; further ones take the ordinary gossip tick."""
