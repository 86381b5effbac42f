/* address.c - tells public addresses from those that an upstream must not stand on when the operator said so.
 *
 * The check sits where the socket is made, after the name was resolved: a name that points inside, or that changes
 * between two look-ups, is caught like a literal address. Pure functions; any thread. */
#include "address.h"

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

struct block {
    uint32_t base;
    int bits;
};

/* The IANA special-purpose registry: what is not globally reachable, multicast and the reserved end included. */
static const struct block inside_v4[] = {
    {0x00000000, 8},  /* this network */
    {0x0a000000, 8},  /* private */
    {0x64400000, 10}, /* carrier-grade NAT */
    {0x7f000000, 8},  /* loopback */
    {0xa9fe0000, 16}, /* link-local, with the clouds' metadata services */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* protocol assignments */
    {0xc0000200, 24}, /* documentation */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 3},  /* multicast, reserved, broadcast */
};

static bool inside_ipv4(uint32_t host_order)
{
    for (size_t i = 0; i < sizeof(inside_v4) / sizeof(inside_v4[0]); i++)
        if ((host_order ^ inside_v4[i].base) >> (32 - inside_v4[i].bits) == 0)
            return true;
    return false;
}

static uint32_t read32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Whether the first <bits> bits of two addresses are the same; <bits> is a multiple of 8. */
static bool same_head(const uint8_t *a, const uint8_t *b, int bits)
{
    return memcmp(a, b, (size_t)bits / 8) == 0;
}

static bool inside_ipv6(const uint8_t a[16])
{
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t nat64[16] = {0x00, 0x64, 0xff, 0x9b};
    static const uint8_t zero[16] = {0};
    static const uint8_t documentation[4] = {0x20, 0x01, 0x0d, 0xb8};

    if (same_head(a, mapped, 96) || same_head(a, nat64, 96))
        return inside_ipv4(read32(a + 12));
    if (same_head(a, zero, 96)) /* unspecified, loopback, IPv4-compatible */
        return true;
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return inside_ipv4(read32(a + 2));
    if (a[0] == 0x00 && a[1] == 0x64) /* local-use NAT64 */
        return true;
    if (same_head(a, documentation, 32))
        return true;
    return (a[0] & 0xe0) != 0x20; /* global unicast is 2000::/3; unique-local, link-local, multicast lie outside it */
}

bool address_is_private(const struct sockaddr *addr, socklen_t len)
{
    if (addr->sa_family == AF_INET && len >= (socklen_t)sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;

        memcpy(&in, addr, sizeof(in));
        return inside_ipv4(ntohl(in.sin_addr.s_addr));
    }
    if (addr->sa_family == AF_INET6 && len >= (socklen_t)sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in6;

        memcpy(&in6, addr, sizeof(in6));
        return inside_ipv6(in6.sin6_addr.s6_addr);
    }
    return true;
}
