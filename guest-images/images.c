#include "guest_images.h"

#define GUEST_IMAGE(image, text)                                                   \
    extern const unsigned char guest_##image##_begin[], guest_##image##_end[];     \
    struct guest_image guest_image_##image(void) {                                 \
        return (struct guest_image){text, guest_##image##_begin,                   \
                                    (size_t)(guest_##image##_end - guest_##image##_begin)}; \
    }

GUEST_IMAGE(agent_real, "agent-real")
GUEST_IMAGE(agent_protected, "agent-protected")
GUEST_IMAGE(agent_long, "agent-long")
GUEST_IMAGE(rewriter, "rewriter")
GUEST_IMAGE(schedclock, "schedclock")
GUEST_IMAGE(sampler, "sampler")
GUEST_IMAGE(contend, "contend")
GUEST_IMAGE(torn, "torn")
GUEST_IMAGE(vmm, "vmm")
