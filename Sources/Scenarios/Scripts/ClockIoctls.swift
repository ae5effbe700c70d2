internal import ABIChecker
internal import Glibc
internal import KVM
internal import PVClock
internal import VMBuilder

extension Scenario {
  /// CLOCK-ZERO-AT-VM-CREATE, GETCLOCK-NOVCPU-FLAGS: the clock before any vCPU exists, before the first runs, and after.
  @Sendable static func clockStart(_ stage: Stage) throws {
    for pause in [0, 3, 1] {
      try stage.makeMachine(vcpus: [], highest: 1)
      for _ in 0..<2 { try stage.getWholeClock() }
      try stage.sleep(milliseconds: pause)
      try stage.getWholeClock()
      for vcpu in [0, 1] { try stage.addVCPU(vcpu) }
      for _ in 0..<2 { try stage.getWholeClock() }
      try stage.sleep(milliseconds: pause)
      for vcpu in [0, 1] {
        try stage.register(vcpu)
        try stage.getWholeClock()
      }
    }
  }

  /// IOCTL-RETURNS-ZERO, IOCTL-REFUSES: each request once, and nothing is read after it.
  @Sendable static func returnValues(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.register(0)
    let machine = stage.machine
    try stage.noteReturn("KVM_GET_CLOCK") { _ = try machine.clock() }
    try stage.noteReturn("KVM_SET_CLOCK") { try machine.setClock(ClockData(clock: 1 << 40)) }
    try stage.noteReturn("KVM_KVMCLOCK_CTRL") { _ = try machine.tellStopped(0) }
    let kHz = try machine.withVCPU(0) { vcpu throws(KVMError) in try vcpu.tscKHz() }.value
    try stage.noteReturn("KVM_SET_TSC_KHZ", ifAccepted: true) {
      _ = try machine.withVCPU(0) { vcpu throws(KVMError) in try vcpu.setTSCKHz(kHz) }
    }
    var hasOffset = false
    try stage.noteReturn("KVM_HAS_DEVICE_ATTR", ifAccepted: true) {
      guard try stage.hasTSCOffset(0) else {
        throw KVMError(request: "KVM_HAS_DEVICE_ATTR", errno: ENXIO)
      }
      hasOffset = true
    }
    stage.noteRefusal("KVM_GET_CLOCK", .noMemory, machine.vm.clockErrorOfBadAddress())
    stage.noteRefusal("KVM_SET_CLOCK", .noMemory, machine.vm.setClockErrorOfBadAddress())
    guard hasOffset else { return }
    for request in AttributeRequest.allCases {
      let unknown = try machine.withVCPU(0) { vcpu throws(KVMError) in
        vcpu.errorOfUnknownAttribute(request)
      }.value
      stage.noteRefusal(request.rawValue, .unknownAttribute, unknown)
      if request == .has { continue }
      let unplaced = try machine.withVCPU(0) { vcpu throws(KVMError) in
        vcpu.errorOfBadAddress(request)
      }.value
      stage.noteRefusal(request.rawValue, .noMemory, unplaced)
    }
    var offset: UInt64?
    try stage.noteReturn("KVM_GET_DEVICE_ATTR") {
      offset = try machine.withVCPU(0) { vcpu throws(KVMError) in try vcpu.tscOffset() }.value
    }
    guard let offset else { return }
    try stage.noteReturn("KVM_SET_DEVICE_ATTR") {
      _ = try machine.withVCPU(0) { vcpu throws(KVMError) in try vcpu.setTSCOffset(offset) }
    }
  }

  /// GETCLOCK-FIELDS, GETCLOCK-MONO: every field against the host's own clocks; then calls without pause.
  @Sendable static func getClock(_ stage: Stage) throws {
    try stage.noteCapability(.adjustClock)
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    for round in 0..<8 {
      try stage.enter(round % 2)
      for _ in 0..<2 {
        try stage.readHostClock("CLOCK_REALTIME")
        try stage.getWholeClock()
        try stage.readHostClock("CLOCK_REALTIME")
      }
    }
    try callWithoutPause(stage)
  }

  /// GETCLOCK-NONMASTER-FIELDS, GETCLOCK-NONMASTER-IS-RAW, CLOCK-BRACKET-NONMASTER, SETCLOCK-NONMASTER: the boot vCPU
  /// on the old MSR keeps the VM out of master-clock mode.
  @Sendable static func getClockNoMaster(_ stage: Stage) throws {
    try stage.makeMachine()
    // The constant is known from here on: before a vCPU runs there is no master clock either.
    try stage.getWholeClock()
    try stage.register(0, MSR.systemTimeOld)
    try stage.register(1)
    for vcpu in [0, 1] { try stage.enter(vcpu) }
    for round in 0..<6 {
      try stage.getWholeClock()
      if round % 2 == 0 { try stage.register(1) } else { try stage.register(0, MSR.systemTimeOld) }
      for vcpu in [0, 1] {
        try stage.getWholeClock()
        try stage.read(vcpu)
        try stage.getWholeClock()
      }
    }
    try callWithoutPause(stage)
    for (index, value) in (boundaryValues + [stage.random.next()]).enumerated() {
      try stage.setClock(value)
      try stage.getClock()
      for vcpu in index % 2 == 0 ? [0, 1] : [1, 0] {
        try stage.read(vcpu)
        try stage.getClock()
      }
    }
  }

  /// SETCLOCK-EXACT: the ends of the range, and values from which the clock wraps while the guests read.
  @Sendable static func setClockExact(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    for vcpu in [0, 1] { try stage.enter(vcpu) }
    let random = (0..<3).map { _ in stage.random.next() }
    for (index, value) in (boundaryValues + random).enumerated() {
      // The pair before is old by then.
      try stage.sleep(milliseconds: 1)
      try stage.setClock(value)
      for vcpu in index % 2 == 0 ? [0, 1] : [1, 0] { try stage.read(vcpu) }
      try stage.getClock()
    }
    try stage.setClock(UInt64.max - 300_000)
    for round in 0..<12 {
      try stage.read(round % 2, ring: round % 4 < 2 ? 0 : 3)
      try stage.getClock()
    }
  }

  /// SETCLOCK-FLAGS, SETCLOCK-OTHERFLAGS-IGNORED: every bit alone, and seeded combinations.
  @Sendable static func setClockFlags(_ stage: Stage) throws {
    try stage.noteCapability(.adjustClock)
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    for vcpu in [0, 1] { try stage.enter(vcpu) }
    let combinations = (0..<16).map { _ in
      UInt32(truncatingIfNeeded: stage.random.next()) & ~0xe | 1 << 4
        | UInt32(truncatingIfNeeded: stage.random.next()) & 0xe
    }
    let known: [UInt32] = [2, 8, 0xa, 0, 2, 8, 0xa, 6, 0xc, 0xe]
    try stage.getClock()
    let single = (0..<32).map { UInt32(1) << $0 }
    for flags in single + combinations + known {
      // A real time that is still to come leaves the value as it is.
      let isAccepted = try stage.trySetClock(
        ClockRecord(
          clock: stage.random.next(), flags: flags, realtime: .max, hostTSC: stage.random.next()))
      if isAccepted { for vcpu in [0, 1] { try stage.read(vcpu) } }
      try stage.getClock()
    }
    // Long ago by both clocks: whoever counts from there is far off.
    let minutes: UInt64 = 180_000_000_000
    for flags in [2, 8, 0xa] as [UInt32] {
      let record = ClockRecord(
        clock: stage.random.next(), flags: flags,
        realtime: try stage.readHostClock("CLOCK_REALTIME") - minutes,
        hostTSC: Moment.before().tsc / 2)
      guard try stage.trySetClock(record) else { continue }
      for vcpu in [0, 1] { try stage.read(vcpu) }
      try stage.getClock()
    }
  }

  /// SETCLOCK-REALTIME-FWD, SETCLOCK-REALTIME-NOBACK, GETSET-ROUNDTRIP.
  @Sendable static func setClockRealtime(_ stage: Stage) throws {
    try stage.noteCapability(.adjustClock)
    let minutes: UInt64 = 60_000_000_000
    // A VM need not have a vCPU yet.
    try stage.makeMachine(vcpus: [], highest: 1)
    let record = ClockRecord(
      clock: stage.random.next() >> 8, flags: 4,
      realtime: try stage.readHostClock("CLOCK_REALTIME") &- 3 * minutes)
    if try trySet(stage, record) {
      for vcpu in [0, 1] { try stage.addVCPU(vcpu) }
      for vcpu in [0, 1] { try stage.register(vcpu) }
    }
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    for vcpu in [0, 1] { try stage.enter(vcpu) }
    let past: [UInt64] = [3 * minutes, 0, 1_000_000, stage.random.next() >> 8]
    let future = [minutes, 365 * 1440 * minutes, UInt64(Int64.max), stage.random.next() >> 4]
    for (ago, ahead) in zip(past, future) {
      for shift in [0 &- ago, ahead] {
        let record = ClockRecord(
          clock: stage.random.next(), flags: ago % 2 == 0 ? 4 : 0xc,
          realtime: try stage.readHostClock("CLOCK_REALTIME") &+ shift, hostTSC: stage.random.next()
        )
        try set(stage, record)
      }
    }
    for pause in [0, 2, 1, 3] {
      let record = try stage.getClock()
      try stage.sleep(milliseconds: pause)
      try set(stage, record)
    }
  }

  /// GETCLOCK-ONE-INSTANT, SETCLOCK-ONE-INSTANT: often, and read as tightly as can be before and after.
  @Sendable static func oneInstant(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      try stage.register(vcpu)
    }
    for vcpu in [0, 1] { try stage.enter(vcpu) }
    try stage.readHostClock("CLOCK_REALTIME")
    for _ in 0..<32 {
      try stage.getClock()
      try stage.readHostClock("CLOCK_REALTIME")
    }
    for round in 0..<32 {
      let record = ClockRecord(
        clock: stage.random.next() >> 8, flags: 4,
        realtime: try stage.readHostClock("CLOCK_REALTIME") &- 1_000_000)
      guard try stage.trySetClock(record) else {
        return stage.lacks("KVM_CLOCK_REALTIME", "KVM_SET_CLOCK refuses it")
      }
      try stage.readHostClock("CLOCK_REALTIME")
      try stage.read(round % 2)
    }
  }

  /// GETCLOCK-ONE-INSTANT: where seconds and nanoseconds of CLOCK_REALTIME are put together anew. The kernel's own turn is
  /// its first tick after that, which may be soon: if no result is of the first 100 us, the next second is tried.
  @Sendable static func turnOfSecond(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.register(0)
    try stage.enter(0)
    for _ in 0..<3 {
      try stage.waitForTurnOfSecond()
      var isSeen = false
      for _ in 0..<64 {
        try stage.readHostClock("CLOCK_REALTIME")
        let record = try stage.getClock()
        isSeen = isSeen || record.realtime % 1_000_000_000 < 100_000
      }
      try stage.readHostClock("CLOCK_REALTIME")
      if isSeen { break }
    }
  }

  /// The ends of the range, signed and unsigned.
  private static let boundaryValues: [UInt64] = [
    0, 1, UInt64(Int64.max), 1 << 63, .max, .max - 20_000, 1_000_000_000,
  ]

  private static func set(_ stage: Stage, _ record: ClockRecord) throws {
    guard try trySet(stage, record) else { return }
    try stage.getClock()
    for vcpu in [0, 1] { try stage.read(vcpu) }
  }

  private static func trySet(_ stage: Stage, _ record: ClockRecord) throws -> Bool {
    try stage.readHostClock("CLOCK_REALTIME")
    let isAccepted = try stage.trySetClock(record)
    try stage.readHostClock("CLOCK_REALTIME")
    return isAccepted
  }

  /// On two threads, with the vCPUs at rest and while they go in and out.
  private static func callWithoutPause(_ stage: Stage) throws {
    try stage.raceGetClock(calls: 1000)
    try stage.raceGetClock(calls: 1000) {
      for vcpu in [0, 1, 0, 1] { try stage.enter(vcpu) }
    }
  }
}
