#include "bootloader/load.h"

#include <string.h>
#include "base/log.h"

enum image_fault load_staged(const struct bootloader *bootloader, uint32_t len_bytes,
                             uint32_t min_security_version, struct image_info *info,
                             uintptr_t *entry)
{
    const struct image_rules rules = {
        .key = &image_build_key,
        .board = bootloader->board,
        .min_security_version = min_security_version,
    };
    enum image_fault fault = image_check(bootloader->staging, len_bytes, &rules, info);

    if (fault != IMAGE_OK) {
        return fault;
    }
    const struct boot_image_head *head = &info->head;
    if (!place_is_free(&bootloader->place, head->load_addr, head->run_bytes)) {
        LOG_ERROR("bootloader: 0x%llx and 0x%llx bytes on are not free",
                  (unsigned long long)head->load_addr, (unsigned long long)head->run_bytes);
        return IMAGE_BAD_HEAD;
    }
    memcpy((void *)(uintptr_t)head->load_addr, info->data, head->load_bytes);
    arch_cache_clean((void *)(uintptr_t)head->load_addr, head->run_bytes);
    *entry = (uintptr_t)head->load_addr;
    return IMAGE_OK;
}
