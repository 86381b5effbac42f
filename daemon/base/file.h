/* file.h - whole reads and writes at a place of a file. Any thread. */
#ifndef TG_BASE_FILE_H
#define TG_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All <len> bytes, or false with errno: a failure, or for reading, 0 when the file ends before. A write that failed may
 * have written some. */
bool file_write_at(int fd, const void *bytes, size_t len, uint64_t offset);
bool file_read_at(int fd, void *out, size_t len, uint64_t offset);

#endif
