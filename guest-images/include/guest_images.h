/* The guest images, as bytes inside the executable, and the mailbox they share with the host. */
#ifndef GUEST_IMAGES_H
#define GUEST_IMAGES_H

#include <stddef.h>

#include "mailbox.h"
#include "vmm.h"

struct guest_image {
    const char *name;
    const unsigned char *bytes;
    size_t size;
};

/* Functions, because Swift does not import arrays of unknown length. */
struct guest_image guest_image_agent_real(void);
struct guest_image guest_image_agent_protected(void);
struct guest_image guest_image_agent_long(void);
struct guest_image guest_image_rewriter(void);
struct guest_image guest_image_schedclock(void);
struct guest_image guest_image_sampler(void);
struct guest_image guest_image_contend(void);
struct guest_image guest_image_torn(void);
struct guest_image guest_image_vmm(void);

#endif
