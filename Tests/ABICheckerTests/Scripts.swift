@testable import ABIChecker

/// For each scenario what an honest host leaves behind.
enum Script {
  static func history(
    of scenario: ScenarioName, source: SimulatedTime.Source = .tsc,
    noise: SimulatedTime.Noise = .none
  ) -> History {
    var host = HistoryBuilder(scenario, source: source, noise: noise)
    switch scenario {
    case .discovery: discovery(&host)
    case .registration: registration(&host)
    case .rewrite: rewrite(&host)
    case .storm: storm(&host)
    case .readback: readback(&host)
    case .freeze: freeze(&host)
    case .version: version(&host)
    case .setClock: setClock(&host)
    case .rate: rate(&host)
    case .oldMSR: oldMSR(&host)
    case .oldMSRElsewhere: oldMSRElsewhere(&host)
    case .cpuid24: cpuid24(&host)
    case .replug: replug(&host)
    case .scheduleOffset: scheduleOffset(&host)
    case .modes: modes(&host)
    case .rewriter: rewriter(&host)
    case .schedclock: schedclock(&host)
    case .clocksourceSwitch: clocksourceSwitch(&host)
    case .slew: slew(&host)
    case .severalVMs: return severalVMs(host)
    case .clocksourceTwice: return clocksourceTwice(host)
    case .suspend: suspend(&host)
    case .periodicSync: periodicSync(&host)
    case .pvFeatures: pvFeatures(&host)
    case .msrFilter: msrFilter(&host)
    case .hostRegisters: hostRegisters(&host)
    case .align4: align4(&host)
    case .unbacked: unbacked(&host)
    case .scribble: scribble(&host)
    case .rewriteExact: rewriteExact(&host)
    case .oldMSRTimestamp: oldMSRTimestamp(&host)
    case .slots: slots(&host)
    case .crossPage: crossPage(&host)
    case .dirtyLog: dirtyLog(&host)
    case .dirtyRing: dirtyRing(&host)
    case .guestStopped: guestStopped(&host)
    case .stoppedUnreachable: stoppedUnreachable(&host)
    case .tscMatching: tscMatching(&host)
    case .hotplug: hotplug(&host)
    case .newPair: newPair(&host)
    case .initReset: initReset(&host)
    case .migration: migration(&host)
    case .restoreTSC: restoreTSC(&host)
    case .firstTSCWrite: firstTSCWrite(&host)
    case .clockBeforeVCPUs: clockBeforeVCPUs(&host)
    case .restoreOrder: restoreOrder(&host)
    case .many: many(&host)
    case .torn: torn(&host)
    case .contend: contend(&host)
    case .unentered: unentered(&host)
    case .running: running(&host)
    case .oldMSRStorm: oldMSRStorm(&host)
    case .sharedPage: sharedPage(&host)
    case .hop: hop(&host)
    case .readCost: readCost(&host)
    case .wallClock: wallClock(&host)
    case .wallMSR: wallMSR(&host)
    case .wallLater: wallLater(&host)
    case .wallRewrite: wallRewrite(&host)
    case .wallTorn: wallTorn(&host)
    case .clockStart: clockStart(&host)
    case .returnValues: returnValues(&host)
    case .getClock: getClock(&host)
    case .oneInstant: oneInstant(&host)
    case .turnOfSecond: turnOfSecond(&host)
    case .getClockNoMaster: getClockNoMaster(&host)
    case .setClockExact: setClockExact(&host)
    case .setClockFlags: setClockFlags(&host)
    case .setClockRealtime: setClockRealtime(&host)
    case .tscOffset: tscOffset(&host)
    case .tscWrite: tscWrite(&host)
    case .realtimeStep: realtimeStep(&host)
    case .tscAdjust: tscAdjust(&host)
    case .tscWays: tscWays(&host)
    case .tscFrequency: tscFrequency(&host)
    case .scaledTSC: scaledTSC(&host)
    case .nested: nested(&host)
    case .restoreState: restoreState(&host)
    case .postCopy: postCopy(&host)
    case .hyperV: hyperV(&host)
    case .xen: xen(&host)
    case .xenHostAddress: xenHostAddress(&host)
    case .clockPairing: clockPairing(&host)
    case .clockPairingWithoutTSC: clockPairingWithoutTSC(&host)
    case .vmmRun: vmmRun(&host)
    case .vmmPause: vmmPause(&host)
    case .vmmSnapshot: vmmSnapshot(&host)
    case .vmmMigration: vmmMigration(&host)
    case .vmmReset: vmmReset(&host)
    case .vmmHotplug: vmmHotplug(&host)
    case .vmmBeside: return vmmBeside(host)
    }
    return host.history
  }

  static func discovery(_ host: inout HistoryBuilder) {
    host.host(.msrIndexList(indices: [0x10, 0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d02]))
    host.host(
      .supportedCPUID(
        function: 0x4000_0000, eax: 0x4000_0001, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d))
    host.host(
      .supportedCPUID(function: 0x4000_0001, eax: 0x0100_7efb, ebx: 0, ecx: 0, edx: 0))
    host.host(.capability(name: "KVM_CAP_ADJUST_CLOCK", value: 0xe))
    for name in Set(Offer.table.map(\.name)).sorted() where name != "KVM_CAP_ADJUST_CLOCK" {
      host.host(.capability(name: name, value: 1))
    }
    host.createMachine()
    host.getClock()
    host.createVCPU(0)
    host.enter(0)
    host.getClock()
  }

  static func registration(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] {
      let record = UInt64(0x10000 + id * 0x1000)
      host.fill(record - 64, count: 160)
      host.register(id)
      host.dump(record - 64, count: 160)
    }
    for id in [0, 1] { host.enter(id) }
    for _ in 0..<2 {
      for id in [0, 1, 0] { host.look(id) }
      host.getClock()
      for id in [0, 1] { host.look(id) }
      for id in [0, 1] {
        host.read(id, ring: 3)
        host.getClock()
      }
    }
  }

  static func rewrite(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for round in 0..<4 {
      for id in [0, 1] {
        host.read(id)
        host.wait(milliseconds: 20)
        host.read(id)
        host.register(id, at: UInt64(0x10000 + id * 0x1000 + round * 64))
      }
    }
  }

  static func storm(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    host.together([(0, "rewriter"), (1, "sampler")], reads: 2000)
  }

  static func readback(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    let both = [MSR.systemTimeOld, MSR.systemTime]
    for id in [0, 1] {
      for (msr, value): (UInt32, UInt64) in [
        (both[0], 0x10001), (both[1], 0x11000), (both[1], 0xffff_ffff_ffff_f001), (both[0], 3),
      ] {
        host.run(id, .write(msr, value), .readMSR(both[0]), .readMSR(both[1]))
        for msr in both { host.hostReadMSR(id, msr) }
      }
    }
  }

  static func freeze(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    func setAndLook(_ host: inout HistoryBuilder, _ addresses: [(Int, UInt64)]) {
      for (id, address) in addresses { host.look(id, at: address) }
      host.setClock(3_600_000_000_000)
      for id in [0, 1] { host.enter(id) }
      for (id, address) in addresses { host.look(id, at: address) }
    }
    host.register(0, at: 0x20000)
    setAndLook(&host, [(0, 0x10000), (0, 0x20000), (1, 0x11000)])
    host.read(1)
    host.run(1, .write(MSR.systemTime, 0x11000))
    setAndLook(&host, [(0, 0x20000), (1, 0x11000)])
    host.register(1)
    host.run(1, .write(MSR.systemTime, 0))
    setAndLook(&host, [(0, 0x20000), (1, 0x11000)])
    host.register(1)
    host.read(1)
    host.run(1, .write(MSR.systemTime, 0))
    host.wait(milliseconds: 20)
    host.register(1)
  }

  static func version(_ host: inout HistoryBuilder) {
    host.machine(0)
    host.register(0)
    for version: UInt32 in [0, 1, 7, 1000, 0xffff_fffe, 0xffff_ffff] {
      host.poke(0x10000, version)
      host.register(0)
      host.look(0)
    }
  }

  static func setClock(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    for value: UInt64 in [0, 1, 1 << 63, 0 &- 2_000, 77_777_777_777] {
      host.setClock(value)
      for id in [0, 1] { host.read(id) }
      for id in [0, 1, 0] { host.look(id) }
      host.getClock()
      for id in [0, 1] { host.look(id) }
    }
  }

  static func rate(_ host: inout HistoryBuilder) {
    host.machine(0)
    for _ in 0..<2 { host.register(0) }
    host.bracket = 60
    host.look(0)
    host.tick()
    host.getClock()
    host.look(0)
    host.wait(milliseconds: 3000)
    host.getClock()
    host.tick()
    host.look(0)
  }

  static func oldMSR(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    func lookAround(_ host: inout HistoryBuilder) {
      for id in [1, 0] { host.read(id) }
      for id in [0, 1] { host.look(id) }
      host.getClock()
    }
    for id in [0, 1] { host.register(id) }
    lookAround(&host)
    for msr in [MSR.systemTimeOld, MSR.systemTime, MSR.systemTimeOld, MSR.systemTime] {
      host.wait(milliseconds: 20)
      host.read(0)
      host.register(0, msr: msr)
      lookAround(&host)
    }
  }

  static func oldMSRElsewhere(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.enter(0)
    host.getClock()
    host.register(1, msr: MSR.systemTimeOld)
    host.enter(0)
    for id in [0, 1] { host.look(id) }
    host.getClock()
    host.machine(1)
    host.getClock()
    host.register(1, msr: MSR.systemTimeOld)
    host.enter(1)
    host.look(1)
    host.getClock()
  }
}
