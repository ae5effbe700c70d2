public import KVM

/// A host in user space on which guests have a TSC of another frequency than the processor's.
///
/// No processor does that for it: the guest's RDTSC gives what it gives. Whoever reads what a guest wrote down asks what that is on
/// this host, so a guest must not compute with its TSC by itself.
public protocol TSCScaling: AnyObject, Sendable {
  /// KVM_SET_TSC_KHZ of a vCPU, or of the VM if nil.
  func setTSCKHz(_ frequency: UInt32, _ id: Int?) throws(KVMError)
  /// KVM_GET_TSC_KHZ.
  func tscKHz(_ id: Int) -> UInt32
  /// What the guest's TSC was where the processor's RDTSC gave it `tsc`.
  func guestTSC(_ tsc: UInt64, _ id: Int) -> UInt64
}

// MARK: The guests' TSC frequency, whoever serves it

extension Machine {
  /// Whether somebody else than KVM gives guests a TSC of another frequency.
  public var hasTSCScalingOfItsOwn: Bool { options.clock?.scaling != nil }

  /// `KVM_SET_TSC_KHZ`, or what stands for it: why it was refused, nil where it was not.
  public func setTSCKHz(
    _ frequency: UInt32, of vcpu: Int
  ) throws(MachineError) -> Bracketed<KVMError?> {
    let scaling = options.clock?.scaling
    return try withVCPU(vcpu) { handle throws(KVMError) -> KVMError? in
      do throws(KVMError) {
        if let scaling {
          try scaling.setTSCKHz(frequency, vcpu)
        } else {
          try handle.setTSCKHz(frequency)
        }
        return nil
      } catch {
        return error
      }
    }
  }

  /// `KVM_GET_TSC_KHZ`, or what stands for it.
  public func tscKHz(of vcpu: Int) throws(MachineError) -> Bracketed<UInt32> {
    let scaling = options.clock?.scaling
    return try withVCPU(vcpu) { handle throws(KVMError) in
      if let scaling { return scaling.tscKHz(vcpu) }
      return try handle.tscKHz()
    }
  }

  /// `KVM_SET_TSC_KHZ` of the VM, or what stands for it.
  public func setTSCKHz(_ frequency: UInt32) throws(KVMError) {
    if let scaling = options.clock?.scaling { return try scaling.setTSCKHz(frequency, nil) }
    try vm.setTSCKHz(frequency)
  }
}
