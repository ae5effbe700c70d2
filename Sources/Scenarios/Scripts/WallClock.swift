internal import ABIChecker
internal import PVClock
internal import VMBuilder

extension Scenario {
  /// WALL-VALUE, WALL-VALUE-EXACT, WALL-VERSION, WALL-SIZE-12, WALL-ANY-ADDRESS, WALL-UNALIGNED, WALL-HOSTSET: every kind of address,
  /// through both MSRs, on both vCPUs; with the master clock and, the boot vCPU on the old MSR, without.
  @Sendable static func wallClock(_ stage: Stage) throws {
    try stage.makeMachine()
    try writeByHost(stage)
    for vcpu in [0, 1] {
      try stage.noteTSCOffset(vcpu)
      try stage.register(vcpu)
    }
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      try stage.register(0, msr)
      try stage.enter(1)
      for vcpu in [0, 1] { try writeEverywhere(stage, vcpu) }
      try writeByHost(stage)
    }
    try plantVersions(stage)
  }

  /// Aligned, across a page boundary, unaligned.
  private static func writeEverywhere(_ stage: Stage, _ vcpu: Int) throws {
    let boundary = Layout.clockPage(vcpu, second: true)
    let aligned = [stage.placeWallClock(vcpu), stage.placeWallClock(vcpu, past: 4)]
    let unaligned = (1...3 as ClosedRange<UInt64>).map { stage.placeWallClock(vcpu, past: $0) }
    for (index, address) in (aligned + [boundary - 4, boundary - 8] + unaligned).enumerated() {
      stage.fillAround(address)
      let msr = (index + vcpu) % 2 == 0 ? MSR.wallClock : MSR.wallClockOld
      try stage.writeWallClock(vcpu, msr, at: address)
      stage.lookAtWallClock(address)
    }
  }

  /// The host writes the MSR and no vCPU enters before the host looks.
  private static func writeByHost(_ stage: Stage) throws {
    for msr in [MSR.wallClock, MSR.wallClockOld] {
      let address = stage.placeWallClock(0)
      stage.fillAround(address)
      try stage.readHostClock("CLOCK_REALTIME")
      try stage.hostWriteMSR(1, msr, address)
      stage.lookAtWallClock(address)
      try stage.readHostClock("CLOCK_REALTIME")
      if stage.records[0] != nil { try stage.read(0) }
    }
  }

  private static func plantVersions(_ stage: Stage) throws {
    let address = stage.placeWallClock(0)
    var versions: [UInt32] = [0, 1, 2, 7, 0x7fff_ffff, 0xffff_fffd, 0xffff_fffe, 0xffff_ffff]
    versions.append(UInt32(truncatingIfNeeded: stage.random.next()))
    for version in versions {
      try stage.poke(0, address, version)
      try stage.writeMSR(0, MSR.wallClock, address)
      stage.lookAtWallClock(address)
    }
  }

  /// WALL-READBACK, WALL-GLOBAL, WALL-ZERO-NOP, WALL-UNBACKED-NOFAULT: the MSR's value, and addresses where
  /// nothing may be written.
  @Sendable static func wallMSR(_ stage: Stage) throws {
    try stage.makeMachine(highest: 2)
    let served = stage.placeWallClock(0)
    stage.fillMemory(0, count: 256)
    stage.fillAround(served)
    try stage.writeMSR(0, MSR.wallClock, served)
    let nowhere: UInt64 = 1 << 45 | stage.random.next() >> 20
    // Its low 32 bits are the address of the record that is looked at.
    let alias = 1 << 45 | served
    let values: [UInt64] = [
      0, nowhere, 0, alias, nowhere << 1 | 1, 0xffff_ffff_ffff_f000, 0xffff_ffff_ffff_fffc,
    ]
    func look() {
      stage.lookAtMemory(0, count: 256)
      stage.lookAtWallClock(served)
    }
    for (index, value) in values.enumerated() {
      for vcpu in [0, 1] {
        look()
        let msr = (index + vcpu) % 2 == 0 ? MSR.wallClock : MSR.wallClockOld
        try stage.writeMSR(vcpu, msr, value ^ (value == 0 ? 0 : UInt64(vcpu) << 4))
        try readEverywhere(stage, [0, 1])
        look()
      }
    }
    let msr = [MSR.wallClock, MSR.wallClockOld]
    for index in [0, 1] {
      try stage.hostWriteMSR(index, msr[index], stage.placeWallClock(1, past: UInt64(index)))
      try readEverywhere(stage, [0, 1])
    }
    try stage.writeMSR(1, MSR.wallClockOld, served)
    try stage.addVCPU(2)
    try readEverywhere(stage, [2])
  }

  private static func readEverywhere(_ stage: Stage, _ vcpus: [Int]) throws {
    for vcpu in vcpus {
      for msr in [MSR.wallClock, MSR.wallClockOld] {
        try stage.readMSR(vcpu, msr)
        _ = try stage.hostReadMSR(vcpu, msr)
      }
    }
  }

  /// WALL-ONESHOT, WALL-FOLLOWS-SETCLOCK: the clock goes on and is set; the record keeps what it says until the next write.
  @Sendable static func wallLater(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    let address = stage.placeWallClock(0)
    let hour: UInt64 = 3_600_000_000_000
    let values = [hour, 5 * hour, 0, hour + stage.random.next() % (1000 * hour), 1_000_000_000]
    for (index, value) in values.enumerated() {
      try stage.writeWallClock(index % 2, at: address)
      stage.lookAtWallClock(address)
      if index == 0 { try stage.sleep(milliseconds: 20) }
      try stage.setClock(value)
      for vcpu in [0, 1] { try stage.enter(vcpu) }
      for vcpu in [0, 1] { try stage.register(vcpu) }
      stage.lookAtWallClock(address)
    }
    try stage.writeWallClock(0, at: address)
    stage.lookAtWallClock(address)
  }

  /// WALL-REWRITE-STABLE, WALL-DRIFT: hundreds of writes, and CLOCK_REALTIME every 40 of them.
  @Sendable static func wallRewrite(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    try stage.register(0)
    let address = stage.placeWallClock(0)
    try stage.writeWallClock(0, at: address)
    for _ in 0..<8 {
      try stage.readHostClock("CLOCK_REALTIME")
      for _ in 0..<40 {
        try stage.writeMSR(0, MSR.wallClock, address)
        stage.lookAtWallClock(address, around: 0)
      }
    }
    try stage.writeWallClock(0, at: address)
    stage.lookAtWallClock(address, around: 0)
  }

  /// WALL-NO-TORN: vCPU 1 reads a record while vCPU 0 and the host write it, each time with another epoch.
  @Sendable static func wallTorn(_ stage: Stage) throws {
    try stage.makeMachine()
    try stage.spread()
    let boundary = Layout.clockPage(0, second: true)
    let hour: UInt64 = 3_600_000_000_000
    for address in [stage.placeWallClock(0), boundary - 8, boundary - 4] {
      stage.fillAround(address)
      try stage.boot(1, .torn)
      try stage.machine.begin(1, .sample(address))
      try stage.awaitReader(1)
      for round in 1...600 as ClosedRange<UInt64> {
        try stage.setClock(round * hour + stage.random.next() >> 24)
        // KVM_SET_CLOCK takes the reader out of the guest for a moment.
        stage.lookAtWallClock(address, around: 0)
        if round % 2 == 0 {
          try stage.writeMSR(0, MSR.wallClock, address)
        } else {
          try stage.hostWriteMSR(0, MSR.wallClock, address)
        }
        stage.lookAtWallClock(address, around: 0)
        guard round >= 80 else { continue }
        // On a busy host the reader's CPU may be somebody else's all the while: it is given time, and more writes.
        if stage.machine.loop(1).reads >= 6000, stage.machine.trace(1).count >= 9 { break }
        try stage.sleep(milliseconds: 1)
      }
      stage.machine.stopLoop(1)
      try stage.finishWallWatch(1, at: address)
    }
  }
}
