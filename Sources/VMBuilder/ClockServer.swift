public import KVM

/// A host's clock in user space, in the place of KVM's own.
///
/// The guests' accesses to its MSRs come to it through the MSR filter, the machine's requests to the VM's clock go to it
/// instead of the kernel. Every vCPU's thread calls it and the driver's too: it orders them itself. Where a vCPU is handed
/// over, the call is on that vCPU's thread, with the vCPU out of the guest.
public protocol ClockServer: AnyObject, Sendable {
  /// The MSRs that the filter sends here.
  var msrs: [ClosedRange<UInt32>] { get }

  func vmCreated(_ space: GuestSpace)
  /// - Parameters:
  ///   - features: EAX of CPUID leaf 0x40000001; nil where the vCPU has no such leaf.
  ///   - isConfined: whether what CPUID does not offer must fault.
  func vcpuCreated(_ id: Int, _ vcpu: borrowing VCPU, features: UInt32?, isConfined: Bool)
  /// The vCPU is about to go into the guest, for the first time or after an exit.
  func willEnter(_ id: Int, _ vcpu: borrowing VCPU)
  /// INIT has reset the vCPU. KVM tells user space of none that its own interrupt controllers delivered; whoever sent it does.
  func vcpuReset(_ id: Int)

  /// RDMSR; nil raises #GP.
  func guestReads(_ msr: UInt32, _ id: Int, _ vcpu: borrowing VCPU) -> UInt64?
  /// WRMSR; false raises #GP.
  func guestWrites(_ msr: UInt32, _ value: UInt64, _ id: Int, _ vcpu: borrowing VCPU) -> Bool

  /// KVM_GET_MSRS.
  func hostReads(_ msr: UInt32, _ id: Int, _ vcpu: borrowing VCPU) throws(KVMError) -> UInt64
  /// KVM_SET_MSRS; false where the value is refused.
  func hostWrites(
    _ msr: UInt32, _ value: UInt64, _ id: Int, _ vcpu: borrowing VCPU
  ) throws(KVMError) -> Bool
  /// KVM_GET_CLOCK.
  func clock() throws(KVMError) -> ClockData
  /// KVM_SET_CLOCK.
  func setClock(_ data: ClockData) throws(KVMError)
  /// KVM_KVMCLOCK_CTRL.
  func tellStopped(_ id: Int, _ vcpu: borrowing VCPU) throws(KVMError)

  /// The server that gives guests a TSC of the frequency asked for; nil leaves all of that to KVM.
  var scaling: (any TSCScaling)? { get }
}

extension ClockServer {
  public var scaling: (any TSCScaling)? { nil }
}

// MARK: The machine's clock, whoever serves it

extension Machine {
  /// `KVM_GET_CLOCK`, or what stands for it.
  public func clock() throws(KVMError) -> ClockData {
    if let server = options.clock { return try server.clock() }
    return try space.vm.clock()
  }

  /// The same into a structure that was full of something else, with its reserved words.
  public func clock(
    over byte: UInt8
  ) throws(KVMError) -> (clock: ClockData, reserved: [UInt32]) {
    if let server = options.clock { return (try server.clock(), [0, 0, 0, 0, 0]) }
    return try space.vm.clock(over: byte)
  }

  /// `KVM_SET_CLOCK`, or what stands for it.
  public func setClock(_ data: ClockData) throws(KVMError) {
    if let server = options.clock { return try server.setClock(data) }
    try space.vm.setClock(data)
  }

  /// `KVM_GET_MSRS`, or what stands for it.
  public func msr(_ index: UInt32, of vcpu: Int) throws(MachineError) -> Bracketed<UInt64> {
    let server = server(of: index)
    return try withVCPU(vcpu) { handle throws(KVMError) in
      if let server { return try server.hostReads(index, vcpu, handle) }
      return try handle.msr(index)
    }
  }

  /// `KVM_SET_MSRS`, or what stands for it; false where the value is refused.
  public func setMSR(
    _ index: UInt32, _ value: UInt64, of vcpu: Int
  ) throws(MachineError) -> Bracketed<Bool> {
    let server = server(of: index)
    return try withVCPU(vcpu) { handle throws(KVMError) in
      if let server { return try server.hostWrites(index, value, vcpu, handle) }
      return try handle.setMSRs([(index, value)]) == 1
    }
  }

  /// `KVM_KVMCLOCK_CTRL`, or what stands for it: the errno, 0 where it was not refused.
  public func tellStopped(_ vcpu: Int) throws(MachineError) -> Bracketed<Int32> {
    let server = options.clock
    return try withVCPU(vcpu) { handle throws(KVMError) -> Int32 in
      do throws(KVMError) {
        if let server { try server.tellStopped(vcpu, handle) } else { try handle.markGuestPaused() }
        return 0
      } catch {
        guard error.result == nil else { throw error }
        return error.errno
      }
    }
  }

  private func server(of msr: UInt32) -> (any ClockServer)? {
    guard let server = options.clock, server.msrs.contains(where: { $0.contains(msr) }) else {
      return nil
    }
    return server
  }
}
