internal import ABIChecker
internal import Glibc
internal import KVM
internal import Synchronization
internal import VMBuilder

/// A `VMClock` behind the MSR filter of a real VM: one lock orders the vCPUs' threads and the driver.
final class ModelClock: ClockServer {
  let msrs: [ClosedRange<UInt32>] = [
    MSR.tsc...MSR.systemTimeOld, MSR.tscAdjust...MSR.tscAdjust,
    MSR.wallClock...MSR.systemTime,
  ]
  private let time: any HostTime
  private let policy: Policy
  private let deviation: Deviation
  private let state = Mutex<VMClock?>(nil)

  init(time: any HostTime, policy: Policy = .keep, deviation: Deviation = Deviation()) {
    self.time = time
    self.policy = policy
    self.deviation = deviation
  }

  private func locked<Value: Sendable, Failure: Error>(
    _ body: (inout VMClock) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    try state.withLock { (state) throws(Failure) -> Value in try body(&state!) }
  }

  func vmCreated(_ space: GuestSpace) {
    var clock = VMClock(time: time, memory: space)
    clock.policy = policy
    clock.deviation = deviation
    state.withLock { [clock] in $0 = clock }
  }

  func vcpuCreated(
    _ id: Int, _ vcpu: borrowing VCPU, features: UInt32?, isConfined: Bool
  ) {
    // Each entry reads it again.
    let offset = try? vcpu.tscOffset()
    locked { $0.add(id, features: features, isConfined: isConfined, tscOffset: offset ?? 0) }
  }

  func willEnter(_ id: Int, _ vcpu: borrowing VCPU) {
    // KVM moves the guest's TSC on its own, wherever that is written.
    let offset = try? vcpu.tscOffset()
    locked { $0.enter(id, tscOffset: offset) }
  }

  func vcpuReset(_ id: Int) { locked { $0.reset(id) } }

  func guestReads(_ msr: UInt32, _ id: Int, _ vcpu: borrowing VCPU) -> UInt64? {
    if Self.isTSC(msr) { return try? vcpu.msr(msr) }
    return locked { $0.read(msr, id, byHost: false) }
  }

  func guestWrites(_ msr: UInt32, _ value: UInt64, _ id: Int, _ vcpu: borrowing VCPU) -> Bool {
    if Self.isTSC(msr) { return guestWritesTSC(msr, value, vcpu) }
    return locked { $0.write(msr, value, id, byHost: false) }
  }

  func hostReads(_ msr: UInt32, _ id: Int, _ vcpu: borrowing VCPU) throws(KVMError) -> UInt64 {
    if Self.isTSC(msr) { return try vcpu.msr(msr) }
    return locked { $0.read(msr, id, byHost: true) } ?? 0
  }

  func hostWrites(
    _ msr: UInt32, _ value: UInt64, _ id: Int, _ vcpu: borrowing VCPU
  ) throws(KVMError) -> Bool {
    if Self.isTSC(msr) { return try vcpu.setMSRs([(msr, value)]) == 1 }
    return locked { $0.write(msr, value, id, byHost: true) }
  }

  func clock() throws(KVMError) -> ClockData { locked { $0.get() } }

  func setClock(_ data: ClockData) throws(KVMError) {
    try locked { (clock) throws(KVMError) in try clock.set(data) }
  }

  func tellStopped(_ id: Int, _ vcpu: borrowing VCPU) throws(KVMError) {
    try locked { (clock) throws(KVMError) in try clock.tellStopped(id) }
  }
}

/// The model makes its guests' TSCs: their frequency is the one that was asked for, whatever the processor can do.
extension ModelClock: TSCScaling {
  var scaling: (any TSCScaling)? { self }

  func setTSCKHz(_ frequency: UInt32, _ id: Int?) throws(KVMError) {
    let isTaken = locked { clock in
      guard frequency > 0 else { return false }
      if let id {
        clock.setTSCKHz(frequency, id)
      } else if clock.vcpus.isEmpty {
        clock.kHzOfNewVCPUs = frequency
      } else {
        return false
      }
      return true
    }
    guard isTaken else { throw KVMError(request: "KVM_SET_TSC_KHZ", errno: EINVAL, remedy: nil) }
  }

  func tscKHz(_ id: Int) -> UInt32 {
    locked { $0.vcpus[id]?.scaling?.kHz } ?? time.tscKHz
  }

  func guestTSC(_ tsc: UInt64, _ id: Int) -> UInt64 {
    locked { clock in
      guard let vcpu = clock.vcpus[id], let rate = vcpu.scaling else { return tsc }
      return rate.guestTSC(tsc &- vcpu.tscOffset) &+ vcpu.tscOffset
    }
  }
}

extension GuestSpace: GuestRAM {}
