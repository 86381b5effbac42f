/* address.h - which network addresses lie inside: loopback, private, link-local and their like. Any thread. */
#ifndef TG_RELAY_ADDRESS_H
#define TG_RELAY_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* True unless <addr> is a public unicast address of IPv4 or IPv6. Addresses that carry an IPv4 address inside (mapped,
 * compatible, NAT64, 6to4) are judged by that. */
bool address_is_private(const struct sockaddr *addr, socklen_t len);

#endif
