internal import CKVM

/// A page of a memory slot, by its number from the slot's first page.
public struct DirtyPage: Hashable, Sendable {
  public var slot: UInt32
  public var page: UInt64

  public init(slot: UInt32, page: UInt64) {
    self.slot = slot
    self.page = page
  }
}

/// The ring in which KVM names the pages of logged slots that one vCPU, or KVM in its place, wrote.
///
/// `Capability.dirtyLogRing` has to be enabled on the VM, with the ring's size in bytes, before the first vCPU is made.
public final class DirtyRing {
  private let mapping: Mapping
  private var next = 0

  /// Maps the ring of a vCPU.
  ///
  /// The corresponding C function is `mmap`, at `KVM_DIRTY_LOG_PAGE_OFFSET` pages.
  /// - Throws: `KVMError` naming `mmap`, with `errno`.
  public init(of vcpu: borrowing VCPU, byteCount: Int) throws(KVMError) {
    mapping = try Mapping(
      shared: vcpu.descriptor, offset: Int(KVM_DIRTY_LOG_PAGE_OFFSET) * 4096, size: byteCount)
  }

  /// Takes the pages that were named since the last call, in order; `VirtualMachine.resetDirtyRings()` frees their entries.
  public func harvest() -> [DirtyPage] {
    let entries = mapping.base.assumingMemoryBound(to: kvm_dirty_gfn.self)
    let capacity = mapping.size / MemoryLayout<kvm_dirty_gfn>.stride
    var pages: [DirtyPage] = []
    while pages.count < capacity {
      let entry = entries + next % capacity
      guard ckvm_dirty_gfn_is_dirty(entry) != 0 else { break }
      pages.append(DirtyPage(slot: entry.pointee.slot, page: entry.pointee.offset))
      ckvm_dirty_gfn_give_back(entry)
      next += 1
    }
    return pages
  }
}
