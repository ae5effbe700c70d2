internal import ABIChecker
internal import VMBuilder

extension Scenario {
  /// SYSTIME-ENABLE, PAGE-*, MULSHIFT-EXACT, STABLE-WHEN-MASTER, CLOCK-BRACKET, SYSTIME-GLOBAL-PAIR,
  /// GETCLOCK-IS-GUEST-VIEW: two vCPUs register, and everything about their records is looked at.
  @Sendable static func registration(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] {
      try stage.noteTSC(vcpu)
      stage.fillClockPage(vcpu)
    }
    for vcpu in [0, 1] { try stage.register(vcpu) }
    for vcpu in [0, 1] { try stage.enter(vcpu) }
    for vcpu in [0, 1] { stage.lookAround(vcpu) }
    for _ in 0..<3 {
      for vcpu in [0, 1] { stage.look(vcpu) }
      try stage.getClock()
      for vcpu in [0, 1] { stage.look(vcpu) }
      for (vcpu, ring) in [(0, 0), (1, 3), (1, 0), (0, 3)] {
        try stage.read(vcpu, ring: ring)
        try stage.getClock()
      }
    }
  }

  /// SYSTIME-REWRITE-KEEPS-TIME: the same address, another one, and back, on both vCPUs.
  @Sendable static func rewrite(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    for round in 0..<4 {
      for vcpu in [0, 1] { try stage.read(vcpu) }
      try stage.sleep(milliseconds: 10)
      for vcpu in [0, 1] {
        let address =
          round % 2 == 0
          ? stage.records[vcpu] : stage.placeRecord(of: vcpu, second: round == 1)
        try stage.getClock()
        try stage.register(vcpu, at: address)
        try stage.getClock()
      }
    }
  }

  /// SYSTIME-REWRITE-STORM: one vCPU writes without pause, the other reads without pause.
  @Sendable static func storm(_ stage: Stage) throws {
    try storm(stage, MSR.systemTime)
  }

  /// MSR-READBACK: a fresh value through each MSR, some of which no host can serve.
  @Sendable static func readback(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] {
      let nowhere: UInt64 = 1 << 45 | stage.random.next() >> 20
      let values: [(UInt32, UInt64)] = [
        (MSR.systemTime, stage.placeRecord(of: vcpu) | 1),
        (MSR.systemTimeOld, stage.placeRecord(of: vcpu, second: true) | 1),
        (MSR.systemTime, 0xffff_ffff_ffff_f001),
        (MSR.systemTimeOld, 0x8000_0000_0000_0001),
        (MSR.systemTime, nowhere | 1),
        (MSR.systemTimeOld, nowhere << 1 & ~1),
        (MSR.systemTime, 3),
        (MSR.systemTimeOld, 0),
      ]
      for (msr, value) in values {
        try stage.writeMSR(vcpu, msr, value)
        for other in [MSR.systemTime, MSR.systemTimeOld] {
          try stage.readMSR(vcpu, other)
          _ = try stage.hostReadMSR(vcpu, other)
        }
      }
    }
  }

  /// SYSTIME-MOVE-FREEZES-OLD, SYSTIME-REENABLE-KEEPS-TIME, SYSTIME-DISABLE-FREEZES: a record is given up.
  @Sendable static func freeze(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    let first = stage.records[0]!
    try stage.register(0, at: stage.placeRecord(of: 0, second: true))
    let second = stage.records[0]!

    /// The host sets the clock: every live record has to change.
    func setAndLook() throws {
      for address in [first, second] { stage.look(0, at: address) }
      stage.look(1)
      try stage.setClock(stage.random.next() >> 8)
      for vcpu in [0, 1] { try stage.enter(vcpu) }
      for address in [first, second] { stage.look(0, at: address) }
      stage.look(1)
    }
    for _ in 0..<2 { try setAndLook() }
    for off in [0, second, second | 0x10] {
      try stage.read(0)
      try stage.writeMSR(0, MSR.systemTime, off & ~1)
      try stage.sleep(milliseconds: 5)
      try stage.register(0, at: second)
    }
    for off in [second, 0] {
      try stage.writeMSR(0, MSR.systemTime, off)
      try setAndLook()
      try stage.register(0, at: second)
    }
  }

  /// VERSION-STEP: the guest sets the version, the host's next update goes on from there.
  @Sendable static func version(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.register(0)
    let record = stage.records[0]!
    var versions: [UInt32] = [0, 1, 2, 0x7fff_fffe, 0xffff_fffd, 0xffff_fffe, 0xffff_ffff]
    versions.append(UInt32(truncatingIfNeeded: stage.random.next()))
    for version in versions {
      try stage.poke(0, record, version)
      try stage.writeMSR(0, MSR.systemTime, record | 1)
      stage.look(0)
    }
  }
}
