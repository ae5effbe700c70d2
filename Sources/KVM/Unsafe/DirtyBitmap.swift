internal import CKVM
internal import Glibc

/// Fetches a slot's dirty bitmap into memory that the kernel cannot write past.
///
/// The kernel is told where the bitmap is, but not how long it is: it writes as many bits as the
/// slot has pages. So the bitmap ends where a page without access begins, and a slot larger than
/// the caller believed gives `EFAULT` instead of a damaged heap.
/// - Throws: `KVMError` naming `KVM_GET_DIRTY_LOG` or `mmap`, with `errno`.
func fetchDirtyBitmap(
  of vm: borrowing FileDescriptor, slot: UInt32, pageCount: Int
) throws(KVMError) -> [Bool] {
  precondition(pageCount >= 0, "a slot cannot have \(pageCount) pages")
  let page = Int(getpagesize())
  let bitmapSize = (pageCount + 63) / 64 * 8
  let usableSize = (bitmapSize + page - 1) / page * page
  let memory = try Mapping(anonymous: usableSize + page)
  guard mprotect(memory.base + usableSize, page, PROT_NONE) == 0 else {
    throw KVMError(request: "mprotect", errno: errno)
  }
  let bitmap = memory.base + (usableSize - bitmapSize)
  var log = kvm_dirty_log()
  log.slot = slot
  log.dirty_bitmap = bitmap
  try check("KVM_GET_DIRTY_LOG", ckvm_get_dirty_log(vm.raw, &log))
  return (0..<pageCount).map { index in
    let byte = bitmap.load(fromByteOffset: index / 8, as: UInt8.self)
    return byte >> UInt8(index % 8) & 1 == 1
  }
}
