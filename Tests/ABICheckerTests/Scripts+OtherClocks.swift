@testable import ABIChecker

extension Script {
  static func hyperV(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.compareWithHyperV()
    host.enableReferencePage()
    host.compareWithHyperV()
    for _ in 0..<2 {
      host.setClock(1 << 50)
      host.compareWithHyperV()
    }
    for msr in [MSR.systemTimeOld, MSR.systemTime] {
      host.register(0, msr: msr)
      host.compareWithHyperV()
    }
  }

  static func xen(_ host: inout HistoryBuilder) {
    host.movesBetweenCPUs = false
    host.machine(0, 1)
    for id in [0, 1] { host.registerXenRecords(id) }
    for id in [0, 1] { host.register(id) }
    host.compareWithXen()
    for _ in 0..<2 {
      host.setClock(1 << 50)
      host.compareWithXen()
    }
    for msr in [MSR.systemTimeOld, MSR.systemTime] {
      host.register(0, msr: msr)
      host.compareWithXen()
      host.shareXenInfo()
      host.compareWithXen()
    }
    for isUnstable in [true, false] {
      host.setXenUnstable(isUnstable)
      host.compareWithXen()
    }
    for id in [0, 1] { host.tellStopped(id) }
    host.compareWithXen()
  }

  static func xenHostAddress(_ host: inout HistoryBuilder) {
    host.movesBetweenCPUs = false
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.setClock(1 << 50)
    for id in [0, 1] { host.registerXenRecords(id, [.info]) }
    host.compareWithXen()
    host.shareXenInfo()
  }

  static func clockPairing(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    host.bracket = 400
    for round in 0..<32 {
      host.readRealtime()
      host.pairClocks(round % 2)
    }
    host.readRealtime()
    for clock in [1, 2, 1 << 31, UInt32.max] { host.pairClocks(0, clock: clock) }
  }

  static func clockPairingWithoutTSC(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    host.pairClocks(0)
    let home = host.time.source
    if home == .tsc { host.switchClocksource(to: .hpet) }
    for round in 0..<4 { host.pairClocks(round % 2) }
    if home == .tsc { host.switchClocksource(to: .tsc) }
  }
}
