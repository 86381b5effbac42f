/* chain.h - the hash chains over the transfers and over the audit trail: what stands there cannot be changed or taken
 * out unnoticed.
 *
 * hash = BLAKE2b-256 (hash before, the event's transfers), each transfer as six 64-bit little-endian integers: number,
 * kind, debit, credit, amount, lot. Pure; any thread. */
#ifndef TG_DB_CHAIN_H
#define TG_DB_CHAIN_H

#include "engine.h"

/* Goes on by one event: its <n> > 0 transfers in order of their numbers. */
void chain_step(uint8_t hash[CHAIN_HASH], const struct transfer_row *transfers, size_t n);

/* The audit trail has one, too: hash = BLAKE2b-256 (hash before, seq, at, token, tenant, request, action, object, peer,
 * before, after). Numbers are 64-bit little-endian; the request is its 16 bytes; a text is led by its length as a
 * number, and what is absent counts as empty. Of <entry> head.hash is not looked at. */
void chain_audit(uint8_t hash[SECRET_DIGEST], const struct audit_entry *entry);

#endif
