/* chain.h - the hash chain over the transfers: what stands in the ledger cannot be changed or taken out unnoticed.
 *
 * hash = BLAKE2b-256 (hash before, the event's transfers), each transfer as six 64-bit little-endian integers: number,
 * kind, debit, credit, amount, lot. Pure; any thread. */
#ifndef TG_DB_CHAIN_H
#define TG_DB_CHAIN_H

#include "ledger.h"

/* Goes on by one event: its <n> > 0 transfers in order of their numbers. */
void chain_step(uint8_t hash[CHAIN_HASH], const struct transfer_row *transfers, size_t n);

#endif
