internal import ABIChecker
internal import VMBuilder

extension Scenario {
  /// HOSTSET-REGISTERS, STABLE-OLDMSR-HOST-NOEFFECT: the host registers records, through either MSR.
  @Sendable static func hostRegisters(_ stage: Stage) throws {
    try stage.makeMachine()
    for isSecond in [false, true] {
      for vcpu in [0, 1] {
        let msr = (vcpu == 0) == isSecond ? MSR.systemTimeOld : MSR.systemTime
        stage.fillClockPage(vcpu, second: isSecond)
        let address = stage.placeRecord(of: vcpu, second: isSecond)
        stage.records[vcpu] = address
        try stage.hostWriteMSR(vcpu, msr, address | 1)
        try stage.enter(vcpu)
        stage.look(vcpu)
        try stage.read(vcpu)
      }
      try settle(stage)
    }
    for vcpu in [0, 1] { try stage.hostWriteMSR(vcpu, MSR.systemTimeOld, stage.records[vcpu]! | 1) }
    try settle(stage)
  }

  /// Everybody enters twice, so that what one entry asked of another vCPU is served; then the host looks.
  private static func settle(_ stage: Stage) throws {
    for _ in 0..<2 {
      for vcpu in stage.machine.vcpus { try stage.enter(vcpu) }
    }
    for vcpu in stage.machine.vcpus { stage.look(vcpu) }
    try stage.getClock()
  }

  /// SYSTIME-ALIGN4: every 4-byte aligned address of one page that leaves 32 bytes of it.
  @Sendable static func align4(_ stage: Stage) throws {
    // The page before is a clock page that nobody uses, the one after belongs to no vCPU.
    try stage.makeMachine(vcpus: [0])
    let page = Layout.clockPage(0, second: true)
    let count: UInt64 = (4096 - 32) / 4 + 1
    let start = UInt64.random(in: 0..<count, using: &stage.random)
    for round in 0..<count {
      // A third of the page on each time: an entry may still update the record before.
      let address = page + (start + round * 340) % count * 4
      stage.fill(address - 64, count: 160)
      try stage.writeMSR(0, MSR.systemTime, address | 1)
      stage.lookAtMemory(address - 64, count: 160)
    }
  }

  /// SYSTIME-UNBACKED-NOFAULT: from a live record and from none, to addresses that no memory slot holds.
  @Sendable static func unbacked(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    let end = UInt64(stage.machine.memory.size)
    let nowhere = (1 << 45 | stage.random.next() >> 20) & ~63
    let addresses = [
      end, end + 0xfe0, 1 << 32, nowhere, 0x8000_0000_0000_0000, 0xffff_ffff_ffff_f000,
    ]
    var copy = stage.copyMemory()
    for (round, address) in addresses.enumerated() {
      let isLive = round % 2 == 0
      try isLive ? stage.register(0) : stage.giveUp(0)
      try stage.readMSR(0, MSR.systemTime)
      // An entry may update a live record until the write has given it up.
      if !isLive { copy = stage.copyMemory() }
      guard try stage.comesBack(0, MSR.systemTime, address | 1) else { return }
      if isLive { copy = stage.copyMemory() }
      try stage.setClock(stage.random.next() >> 8)
      for vcpu in [0, 1, 0] { try stage.enter(vcpu) }
      try stage.readMSR(0, MSR.systemTime)
      stage.compareMemory(with: copy)
    }
    try stage.register(0)
  }

  /// SCRIBBLE-REPAIRED: the guest overwrites its record, then writes the MSR.
  @Sendable static func scribble(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    let flags: [UInt32] = [0xff, 0x00, 0xfd, 0x02, 0xfc, 0x04]
    for vcpu in [0, 1] {
      for flags in flags {
        try stage.read(vcpu)
        var words = (0..<8).map { _ in UInt32(truncatingIfNeeded: stage.random.next()) }
        words[7] = words[7] & 0xffff_00ff | flags << 8
        for (index, word) in words.enumerated() {
          try stage.poke(vcpu, stage.records[vcpu]! + UInt64(index) * 4, word)
        }
        try stage.register(vcpu)
        stage.look(vcpu)
      }
    }
  }

  /// SYSTIME-REWRITE-MASTER-EXACT: hundreds of writes, mostly of the same address, and a look after each.
  @Sendable static func rewriteExact(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try settle(stage)
    for round in 0..<300 {
      for vcpu in [0, 1] {
        if round % 20 == 0 {
          stage.records[vcpu] = stage.placeRecord(of: vcpu, second: round % 40 == 0)
        }
        try stage.writeMSR(vcpu, MSR.systemTime, stage.records[vcpu]! | 1)
        stage.look(vcpu)
      }
    }
  }

  /// OLDMSR-REFRESH-TIMESTAMP: vCPU 0 goes to the old MSR and writes it again and again, then vCPU 1 too.
  @Sendable static func oldMSRTimestamp(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    for vcpu in [0, 1] {
      for round in 0..<6 {
        if round % 2 == 0 { try stage.sleep(milliseconds: 2) }
        try stage.read(vcpu)
        try stage.register(vcpu, MSR.systemTimeOld)
      }
    }
  }
}
