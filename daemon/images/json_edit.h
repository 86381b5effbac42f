/* json_edit.h - the pictures of an edit that came as JSON: images[] and mask, each an image_url or a file_id.
 *
 * Nothing is fetched. A data: URL tells its picture's size; what stands behind another URL or a file's id is unknown
 * and counts as the dearest picture. Pure, any thread. */
#ifndef TG_IMAGES_JSON_EDIT_H
#define TG_IMAGES_JSON_EDIT_H

#include "request.h"
#include "skeleton.h"

/* <tree>: of the skeleton. Fills spec->inputs. */
TG_MUSTCHECK enum err_code json_edit_read(struct json_object *tree, const struct skeleton *skeleton,
                                          struct image_spec *spec, struct err *err);

#endif
