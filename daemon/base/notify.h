/* notify.h - systemd: state messages and watchdog. Silent when not run by systemd. */
#ifndef TG_BASE_NOTIFY_H
#define TG_BASE_NOTIFY_H

#include <stdint.h>

#include "attrs.h"

void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);
void notify_status(const char *fmt, ...) TG_PRINTF(1, 2);
void notify_watchdog(void);
int64_t notify_watchdog_interval(void); /* microseconds between pings (half of WatchdogSec); 0: no watchdog */

#endif
