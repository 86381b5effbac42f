/* metrics.h - counters, gauges and histograms from metrics.def; Prometheus text out.
 *
 * Any thread: relaxed atomics. Histograms have fixed buckets from 100 us to 600 s. */
#ifndef TG_BASE_METRICS_H
#define TG_BASE_METRICS_H

#include <stdint.h>

#include "buf.h"

enum metric {
#define COUNTER(name, text, help) METRIC_##name,
#define COUNTER_BY(name, text, label, help, ...) METRIC_##name,
#define GAUGE(name, text, help) METRIC_##name,
#define HISTOGRAM(name, text, help) METRIC_##name,
#include "metrics.def"
#undef COUNTER
#undef COUNTER_BY
#undef GAUGE
#undef HISTOGRAM
    METRIC_COUNT
};

enum { METRIC_LABELS = 8 }; /* values of a labelled counter */

void metric_add(enum metric m, int64_t by);                       /* counters (by >= 0) and gauges */
void metric_add_label(enum metric m, unsigned value, int64_t by); /* <value>: its place in the .def line, from 0 */
void metric_set(enum metric m, int64_t value);                    /* gauges */
void metric_observe(enum metric m, int64_t microseconds);         /* histograms */
int64_t metric_read(enum metric m);                               /* counters and gauges */

/* text/plain; version=0.0.4: every metric with HELP and TYPE, then build_info and process_* (RSS, CPU, fds, start). */
void metrics_print(struct buf *out);

#endif
