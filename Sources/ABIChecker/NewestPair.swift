/// Whose records hold the newest pair of the master clock for certain.
///
/// KVM takes a new pair in an entry (a vCPU's first one, for it was made while the VM had no master clock; one after
/// a change between the MSRs, after the host moved its TSC, or after a write of Hyper-V's HV_X64_MSR_REFERENCE_TSC) or in `KVM_SET_CLOCK`. Every other vCPU's record gets it
/// at that vCPU's next entry.
struct NewestPair {
  private var entered: Set<Int> = []
  private var holders: Set<Int> = []
  private var onOldMSR: Set<Int> = []
  /// Whose next entry may take a new pair because the host moved its TSC.
  private var moved: Set<Int> = []
  private(set) var moves = TSCMoves()

  func isHeld(by vcpu: Int) -> Bool { holders.contains(vcpu) && !moves.stale.contains(vcpu) }

  /// Whether the TSC offset that was recorded last is the one that the vCPU has.
  func knowsTSCOffset(of vcpu: Int) -> Bool { !moves.offsetUnknown.contains(vcpu) }

  /// Whether some vCPU's TSC was moved, so that they may no longer match.
  private(set) var mayBeUnmatched = false

  var hasEntered: Bool { !entered.isEmpty }

  /// Whether a vCPU whose TSC offset was set has still to enter, and to take a new pair then.
  var awaitsRetunedVCPU: Bool { !moved.isEmpty }

  /// Whether the guest's last write on vCPU 0 went to the old MSR.
  var isBootVCPUOnOldMSR: Bool { onOldMSR.contains(0) }

  /// Whether this event may have replaced a pair while the clock ran on.
  mutating func take(_ event: Event) -> Bool {
    var isNew = false
    let mover = moves.take(event)
    if case .vcpu(let vcpu) = event.actor { isNew = moved.remove(vcpu) != nil }
    if let mover {
      mayBeUnmatched = true
      if event.actor == .host {
        isNew = true
        moved.insert(mover)
      }
    }
    switch (event.action, event.actor) {
    case (.vmCreated, _): self = NewestPair()
    case (.setClock, _): holders = []
    case (.vcpuCreated, _), (.replugged, _): isNew = !entered.isEmpty || isNew
    case (.wroteMSR(let msr, _, nil), .vcpu(let vcpu)) where MSR.isOldSystemTime(msr):
      isNew = true
      onOldMSR.insert(vcpu)
    case (.wroteMSR(let msr, _, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
      isNew = onOldMSR.remove(vcpu) != nil || isNew
    case (.wroteMSR(Hex(MSR.referenceTSC), _, nil), .vcpu), (.xenSharedInfoSet, _): isNew = true
    default: break
    }
    if case .vcpu(let vcpu) = event.actor, !entered.contains(vcpu) {
      isNew = isNew || !entered.isEmpty
      entered.insert(vcpu)
    }
    if isNew { holders = [] }
    if case .vcpu(let vcpu) = event.actor { holders.insert(vcpu) }
    return isNew
  }
}
