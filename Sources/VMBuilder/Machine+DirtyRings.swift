public import KVM

extension Machine {
  /// 4096 entries: many times what a guest writes between two harvests, so that no ring is ever full.
  static let dirtyRingSize = 4096 * 16

  /// Gives the vCPUs that are made from now on a dirty ring each; whether there is a dirty log beside the rings.
  static func enable(
    _ dirtyRing: Capability, on vm: borrowing VirtualMachine
  ) throws(KVMError) -> Bool {
    try vm.enableCapability(dirtyRing, arguments: [UInt64(dirtyRingSize)])
    guard try vm.checkExtension(.dirtyLogRingWithBitmap) > 0 else { return false }
    try vm.enableCapability(.dirtyLogRingWithBitmap)
    return true
  }

  /// The pages that were written since the last call, each with the vCPU in whose ring it is, or nil if it is in none: the
  /// dirty log beside the rings names it, or this process wrote it. The vCPUs are out of the guest.
  public func harvestDirtyRings() throws(MachineError) -> [(vcpu: Int?, page: DirtyPage)] {
    var pages: [(vcpu: Int?, page: DirtyPage)] = []
    for (vcpu, ring) in rings { pages += ring.harvest().map { (vcpu, $0) } }
    do {
      try vm.resetDirtyRings()
    } catch {
      throw .kvm(error)
    }
    let logged = space.change { slots in
      slots.filter { $0.flags.contains(.logDirtyPages) }.map(\.slot)
    }
    for slot in logged {
      let others =
        hasLogBesideRings ? try dirtyPages(of: slot) : takeOwnWrites(to: slot).pages.sorted()
      pages += others.map { (nil, DirtyPage(slot: slot, page: UInt64($0))) }
    }
    return pages
  }
}
