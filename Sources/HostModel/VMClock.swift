internal import ABIChecker
internal import Glibc
internal import KVM
internal import PVClock

/// The kvmclock of one VM: what a host owes its guests, as a program.
///
/// One system time in nanoseconds for the whole VM, which KVM_SET_CLOCK sets and nothing else does. Each vCPU may have a record
/// of it in guest memory, at an address that it, or the host, writes to MSR_KVM_SYSTEM_TIME. A record is a point of
/// a straight line, by which the guest goes from its TSC to system time without asking.
///
/// Sources: Documentation/virt/kvm/x86/msr.rst, Documentation/virt/kvm/api.rst, arch/x86/include/asm/pvclock-abi.h.
struct VMClock {
  struct VCPU {
    /// What was written last to the system-time MSR, all 64 bits: it reads back through both numbers.
    var systemTimeMSR: UInt64 = 0
    /// The record has to be written before the guest goes on.
    var needsRecord = false
    /// The guest has to be told that it was stopped, in the record that is written next.
    var isStopPending = false
    /// The guest's TSC less the host's, in cycles.
    var tscOffset: UInt64 = 0
    /// The rate of the guest's TSC where it is not the host's.
    var scaling: GuestTSCRate?
    var hasEntered = false
    /// CPUID 0x40000001.EAX, and whether the guest may use no more than that.
    var features: UInt32?
    var isConfined = false

    /// Bit 0 of the value: "anything with bit0 == 0 … until".
    var hasRecord: Bool { systemTimeMSR & 1 == 1 }
    var controlBits: UInt64 = 1
    var recordAddress: UInt64 { systemTimeMSR & ~controlBits }
  }

  /// System time at an instant that the host's TSC names.
  struct Point {
    var tsc: UInt64
    var systemTime: UInt64
  }

  var vcpus: [Int: VCPU] = [:]
  /// A point of the line that system time is. With the master clock every record shows it; without, each shows a fresh one.
  var point: Point
  /// Where the host's time does not count the TSC: CLOCK_MONOTONIC_RAW less system time.
  var rawAtZero: UInt64
  /// Nanoseconds per cycle, as the records say it.
  var scale: TSCScale
  /// The frequency of vCPUs that are still to be made, where it is not the host's.
  var kHzOfNewVCPUs: UInt32?
  /// The boot vCPU's guest wrote the old MSR last: it wants a fresh tsc_timestamp with each write (SLES 10).
  var bootVCPUUsesOldMSR = false
  var hasMasterClock = false
  /// One value for the whole VM: there is no enable bit.
  var wallClockMSR: UInt64 = 0
  var wallClock = WallClockEpoch()
  var policy = Policy.keep
  var deviation = Deviation()
  /// What a deviation counts or keeps.
  var memo: [Int: UInt64] = [:]

  let time: any HostTime
  let memory: any GuestRAM

  /// The clock starts at 0 when the VM is made.
  init(time: any HostTime, memory: any GuestRAM) {
    self.time = time
    self.memory = memory
    scale = TSCScale(tscKHz: time.tscKHz)
    let now = time.tscAndRaw()
    point = Point(tsc: now.tsc, systemTime: 0)
    rawAtZero = now.raw
  }

  /// System time now.
  func now() -> Point {
    guard time.countsTSC else {
      let now = time.tscAndRaw()
      return Point(tsc: now.tsc, systemTime: now.raw &- rawAtZero)
    }
    let tsc = time.tsc()
    return Point(tsc: tsc, systemTime: systemTime(at: tsc))
  }

  func systemTime(at tsc: UInt64) -> UInt64 {
    // As the guests see it: with one scaled TSC for all of them.
    guard let rate = vcpus[vcpus.keys.min() ?? 0]?.scaling else {
      return point.systemTime &+ scale.nanoseconds(cycles: tsc &- point.tsc)
    }
    return point.systemTime
      &+ rate.record.nanoseconds(cycles: rate.guestTSC(tsc) &- rate.guestTSC(point.tsc))
  }

  /// From now on it is this late; every record has to say so.
  mutating func setSystemTime(_ value: UInt64, at now: Point) {
    let step = value &- now.systemTime
    rawAtZero &-= step
    point = Point(tsc: now.tsc, systemTime: value)
    requestRecords()
  }

  mutating func requestRecords() {
    for id in vcpus.keys { vcpus[id]!.needsRecord = true }
  }
}

// MARK: vCPUs come and go

extension VMClock {
  /// A new vCPU changes nothing for those that are there.
  mutating func add(_ id: Int, features: UInt32?, isConfined: Bool, tscOffset: UInt64) {
    vcpus[id] = VCPU(
      tscOffset: tscOffset, scaling: rate(kHzOfNewVCPUs), features: features,
      isConfined: isConfined, controlBits: policy.controlBits)
  }

  /// Requests are served when the vCPU goes in, and at no other time: no record changes while its guest reads it, but for
  /// readers on other vCPUs, who have the version.
  /// - Parameter tscOffset: nil where KVM does not tell it, as of a VM that it has killed: it is taken for unchanged.
  mutating func enter(_ id: Int, tscOffset: UInt64?) {
    deviation.entered?(&self, id)
    if let tscOffset, vcpus[id]!.tscOffset != tscOffset {
      vcpus[id]!.tscOffset = tscOffset
      vcpus[id]!.needsRecord = true
    }
    vcpus[id]!.hasEntered = true
    chooseMasterClock()
    guard vcpus[id]!.needsRecord else { return }
    vcpus[id]!.needsRecord = false
    if vcpus[id]!.hasRecord { publishRecord(of: id) }
  }

  /// Master clock: all records show one point, and readings on different vCPUs are in order (PVCLOCK_TSC_STABLE_BIT). That takes a host whose time
  /// counts the TSC, vCPUs whose TSCs are equal, and a boot vCPU that does not ask for fresh timestamps.
  mutating func chooseMasterClock() {
    let running = vcpus.values.filter(\.hasEntered)
    let areMatched = Set(vcpus.values.map(\.tscOffset)).count == 1
    let isPossible = time.countsTSC && areMatched && !bootVCPUUsesOldMSR && !running.isEmpty
    guard isPossible != hasMasterClock else { return }
    hasMasterClock = isPossible
    if isPossible { point = now() }
    requestRecords()
  }

  /// INIT: the guest has no record any more. Time goes on.
  mutating func reset(_ id: Int) {
    if deviation.reset?(&self, id) == true { return }
    vcpus[id]!.systemTimeMSR = 0
  }
}

// MARK: The MSRs

extension VMClock {
  /// RDMSR, or KVM_GET_MSRS with `byHost`; nil raises #GP. The host reads 0 from what the guest may not use.
  mutating func read(_ msr: UInt32, _ id: Int, byHost: Bool) -> UInt64? {
    guard mayUse(msr, id) else { return byHost ? 0 : nil }
    let isWallClock = msr == MSR.wallClock || msr == MSR.wallClockOld
    var value = isWallClock ? wallClockMSR : vcpus[id]!.systemTimeMSR
    deviation.read?(&self, Access(msr: msr, vcpu: id, byHost: byHost), &value)
    return value
  }

  /// WRMSR, or KVM_SET_MSRS with `byHost`; false raises #GP. No address is refused: one without memory is a record that nobody sees.
  mutating func write(_ msr: UInt32, _ value: UInt64, _ id: Int, byHost: Bool) -> Bool {
    guard mayUse(msr, id) else { return byHost && value == 0 }
    var value = value
    let access = Access(msr: msr, vcpu: id, byHost: byHost)
    switch deviation.write?(&self, access, &value) {
    case .done: return true
    case .fault: return false
    case nil: break
    }
    if msr == MSR.wallClock || msr == MSR.wallClockOld {
      writeWallClock(value)
    } else {
      register(value, access)
    }
    return true
  }

  /// The guest may use what its CPUID offers: bit 0 is for the old pair of MSRs, bit 3 for the new one. A guest that is not confined may use both.
  private func mayUse(_ msr: UInt32, _ id: Int) -> Bool {
    let vcpu = vcpus[id]!
    guard vcpu.isConfined else { return true }
    let isOld = msr == MSR.systemTimeOld || msr == MSR.wallClockOld
    if let answer = deviation.mayUse?(vcpu.features ?? 0, msr) { return answer }
    return (vcpu.features ?? 0) & (isOld ? 1 << 0 : 1 << 3) != 0
  }

  /// The system-time MSR. The record before is given up, the new one is written before the guest goes on, and time carries on: a guest
  /// may write as often as it likes, on any vCPU.
  private mutating func register(_ value: UInt64, _ access: Access) {
    if access.vcpu == 0, !access.byHost {
      // User space restores every guest through either number; only the guest's own write tells which it uses.
      bootVCPUUsesOldMSR = access.msr == MSR.systemTimeOld
      chooseMasterClock()
      if policy.restartsTime(at: access, value) { setSystemTime(0, at: now()) }
    }
    vcpus[access.vcpu]!.systemTimeMSR = value
    vcpus[access.vcpu]!.needsRecord = true
  }
}

/// Who uses an MSR.
struct Access {
  var msr: UInt32
  var vcpu: Int
  var byHost: Bool
}
