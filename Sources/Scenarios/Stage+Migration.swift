internal import ABIChecker
internal import KVM
internal import VMBuilder

/// What a virtual machine monitor takes along of a VM.
struct SavedMachine {
  struct VCPU {
    var systemTime: UInt64
    /// Cycles; nil where the kernel has no KVM_VCPU_TSC_OFFSET.
    var tscOffset: UInt64?
    /// IA32_TSC, where it was asked for.
    var tsc: UInt64 = 0
  }

  var vcpus: [Int: VCPU] = [:]
  var records: [Int: UInt64]
  var clock: ClockRecord
  var memory: [UInt8]
}

extension Stage {
  /// Sets the clock from a whole record, flags and all; false if KVM refused it.
  func setClock(record: ClockRecord) throws -> Bool {
    let data = ClockData(
      clock: record.clock, flags: ClockFlags(rawValue: record.flags), realtime: record.realtime,
      hostTSC: record.hostTSC)
    do throws(KVMError) {
      let vm = machine
      try note({ .setClock(record) }, of: { () throws(KVMError) in try vm.setClock(data) })
      return true
    } catch {
      lacks("KVM_SET_CLOCK with flags \(Hex(record.flags))", "\(error)")
      return false
    }
  }

  /// Saves the machine, drops it, waits, and goes on with it in a new one.
  ///
  /// - Parameters:
  ///   - realtime: set the clock from all that KVM_GET_CLOCK returned, so that the pause counts; else from its
  ///     nanoseconds alone.
  ///   - msr: the MSR through which the host registers the records.
  ///   - told: the vCPU whose guest is told that it was stopped, on the new machine.
  func migrate(
    realtime: Bool = false, through msr: UInt32 = MSR.systemTime, telling told: Int? = nil
  ) throws {
    let saved = try save()
    try sleep(milliseconds: 5)
    let vcpus = saved.vcpus.keys.sorted()
    try makeMachine(vcpus: vcpus)
    machine.memory.write(saved.memory, at: 0)
    records = saved.records
    for vcpu in vcpus { try hostWriteMSR(vcpu, msr, saved.vcpus[vcpu]!.systemTime) }
    for vcpu in vcpus { try restoreTSC(vcpu, saved.vcpus[vcpu]!.tscOffset) }
    try betweenRealtimes {
      let isSet = realtime ? try setClock(record: saved.clock) : false
      if !isSet { try setClock(saved.clock.clock) }
    }
    if let told { try tellStopped(told) }
    // Twice: in the first one a new machine maps its memory.
    for vcpu in vcpus + vcpus { try read(vcpu) }
  }

  func save(withTSC: Bool = false) throws -> SavedMachine {
    let clock = try betweenRealtimes { try getClock() }
    var saved = SavedMachine(
      records: records, clock: clock,
      memory: machine.memory.read(at: 0, count: machine.memory.size))
    for vcpu in machine.vcpus {
      saved.vcpus[vcpu] = SavedMachine.VCPU(
        systemTime: try hostReadMSR(vcpu, MSR.systemTime), tscOffset: try noteTSCOffset(vcpu),
        tsc: withTSC ? try hostReadMSR(vcpu, MSR.tsc) : 0)
    }
    note(.saved)
    return saved
  }

  /// Reads CLOCK_REALTIME before and after; again, a few times, if the core was lost between.
  private func betweenRealtimes<Value>(_ body: () throws -> Value) throws -> Value {
    var tries = 0
    while true {
      tries += 1
      let began = Moment.before().raw
      try readHostClock("CLOCK_REALTIME")
      let value = try body()
      try readHostClock("CLOCK_REALTIME")
      if tries == 8 || Moment.after().raw - began < 200_000 { return value }
    }
  }

  /// On the same host the same offset: the guest's TSC runs on as if nothing had happened.
  private func restoreTSC(_ vcpu: Int, _ offset: UInt64?) throws {
    guard let offset else { return }
    do throws(MachineError) {
      _ = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in try vcpu.setTSCOffset(offset) }
    } catch .kvm(let error) {
      lacks("KVM_VCPU_TSC_OFFSET", "\(error)")
    }
    guard let now = try noteTSCOffset(vcpu), now != offset else { return }
    lacks("TSC offset", "vcpu\(vcpu)'s was set to \(offset) cycles and reads back as \(now)")
  }
}
