internal import CKVM
internal import Glibc

/// Room for a slot's dirty bitmap that the kernel cannot write past.
///
/// The kernel is told where the bitmap is, but not how long it is: it writes as many bits as the
/// slot has pages. So the bitmap ends where a page without access begins, and a slot larger than
/// the caller believed gives `EFAULT` instead of a damaged heap.
struct DirtyBitmap: ~Copyable {
  private let memory: Mapping
  private let pageCount: Int
  private let start: Int

  /// Room for `pageCount` pages of a slot.
  ///
  /// - Throws: `KVMError` naming `mmap` or `mprotect`, with `errno`.
  init(pageCount: Int) throws(KVMError) {
    require(pageCount >= 0, "a slot cannot have \(pageCount) pages")
    let page = Int(getpagesize())
    let bitmapSize = (pageCount + 63) / 64 * 8
    let usableSize = (bitmapSize + page - 1) / page * page
    let memory = try Mapping(anonymous: usableSize + page)
    guard mprotect(memory.base + usableSize, page, PROT_NONE) == 0 else {
      throw KVMError(request: "mprotect", errno: errno)
    }
    self.memory = memory
    self.pageCount = pageCount
    self.start = usableSize - bitmapSize
  }

  /// Fetches the bitmap of a slot, which clears it in the kernel; one value per page.
  ///
  /// - Throws: `KVMError` naming `KVM_GET_DIRTY_LOG`, with `errno`.
  func fetch(from vm: borrowing FileDescriptor, slot: UInt32) throws(KVMError) -> [Bool] {
    var log = kvm_dirty_log()
    log.slot = slot
    log.dirty_bitmap = memory.base + start
    try check("KVM_GET_DIRTY_LOG", ckvm_get_dirty_log(vm.raw, &log))
    return (0..<pageCount).map { page in
      let byte = memory.base.load(fromByteOffset: start + page / 8, as: UInt8.self)
      return byte >> UInt8(page % 8) & 1 == 1
    }
  }

  /// Takes `pages`, one value per page from the slot's first, out of the slot's log in the kernel.
  ///
  /// - Throws: `KVMError` naming `KVM_CLEAR_DIRTY_LOG`, with `errno`.
  func clear(
    _ pages: [Bool], from vm: borrowing FileDescriptor, slot: UInt32
  ) throws(KVMError) {
    require(pages.count == pageCount, "room for \(pageCount) pages, not \(pages.count)")
    for first in stride(from: 0, to: pageCount, by: 8) {
      let bits = pages[first..<min(first + 8, pageCount)].enumerated().map {
        UInt8($1 ? 1 : 0) << $0
      }
      memory.base.storeBytes(
        of: bits.reduce(0, |), toByteOffset: start + first / 8, as: UInt8.self)
    }
    var log = kvm_clear_dirty_log()
    log.slot = slot
    log.num_pages = UInt32(pageCount)
    log.dirty_bitmap = memory.base + start
    try check("KVM_CLEAR_DIRTY_LOG", ckvm_clear_dirty_log(vm.raw, &log))
  }
}
