public import KVM
internal import Synchronization

/// Pages of the host for a memory slot, seen at two addresses: the one that the slot names, and one by which the host looks at
/// these pages whatever the slot's address shows by then.
public final class Backing: Sendable {
  /// The pages themselves.
  public let memory: GuestMemory
  /// What a slot's address shows: these pages, until others take their place.
  let place: GuestMemory
  let pages: SharedPages
  private let access = Mutex<MemoryAccess>([.read, .write])

  public init(size: Int, filledWith byte: UInt8) throws(MachineError) {
    do {
      pages = try SharedPages(size: size)
      memory = try GuestMemory(showing: pages)
      place = try GuestMemory(showing: pages)
    } catch {
      throw .kvm(error)
    }
    memory.fill(byte, at: 0, count: size)
  }

  /// Has this one's address show another one's pages.
  public func show(_ other: Backing) throws(MachineError) {
    do {
      try place.show(other.pages)
    } catch {
      throw .kvm(error)
    }
    access.withLock { $0 = [.read, .write] }
  }
}

extension Backing {
  /// What the host, and so KVM, may do with the pages at the address that a slot names.
  public func allow(_ access: MemoryAccess) throws(MachineError) {
    do {
      try place.allow(access)
    } catch {
      throw .kvm(error)
    }
    self.access.withLock { $0 = access }
  }

  func allows(_ access: MemoryAccess) -> Bool { self.access.withLock { $0.isSuperset(of: access) } }
}

extension Machine {
  /// Puts a backing into a slot of its own, or changes the flags of a slot that holds it already. The machine's memory is slot 0.
  public func setSlot(
    _ slot: UInt32, at address: UInt64, _ backing: Backing, _ flags: MemoryRegionFlags = []
  ) throws(MachineError) {
    precondition(slot > 0, "slot 0 is the machine's memory")
    do {
      try vm.setMemoryRegion(
        slot: slot, flags: flags, guestPhysicalAddress: address, memory: backing.place)
    } catch {
      throw .kvm(error)
    }
    space.change { slots in
      slots.removeAll { $0.slot == slot }
      slots.append(ExtraSlot(slot: slot, address: address, backing: backing, flags: flags))
    }
  }

  public func removeSlot(_ slot: UInt32) throws(MachineError) {
    do {
      try vm.deleteMemoryRegion(slot: slot)
    } catch {
      throw .kvm(error)
    }
    space.change { $0.removeAll { $0.slot == slot } }
  }

  /// Has the dirty log keep its pages until KVM_CLEAR_DIRTY_LOG, and name all pages of a slot at first.
  public func makeDirtyLogManual() throws(MachineError) {
    do {
      try vm.enableCapability(.manualDirtyLogProtect, arguments: [1 | 2])
    } catch {
      throw .kvm(error)
    }
    hasManualDirtyLog = true
  }

  /// The pages of a slot that were written since the last call, by their numbers.
  public func dirtyPages(of slot: UInt32) throws(MachineError) -> [Int] {
    let (pageCount, own) = takeOwnWrites(to: slot)
    do {
      let isDirty = try vm.dirtyLog(slot: slot, pageCount: pageCount)
      if hasManualDirtyLog { try vm.clearDirtyLog(slot: slot, pages: isDirty) }
      return isDirty.indices.filter { isDirty[$0] || own.contains($0) }
    } catch {
      throw .kvm(error)
    }
  }

  /// A slot's size in pages, and those that this process wrote, which KVM's own log does not know.
  func takeOwnWrites(to slot: UInt32) -> (pageCount: Int, pages: Set<Int>) {
    let extra = space.change { slots -> (pageCount: Int, pages: Set<Int>)? in
      guard let at = slots.firstIndex(where: { $0.slot == slot }) else { return nil }
      defer { slots[at].dirty = [] }
      return (slots[at].backing.memory.size / Int(Layout.pageSize), slots[at].dirty)
    }
    guard let extra else { preconditionFailure("the machine has no slot \(slot)") }
    return extra
  }
}
