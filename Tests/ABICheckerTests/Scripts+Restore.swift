@testable import ABIChecker

extension Script {
  static func restoreTSC(_ host: inout HistoryBuilder) {
    let saved = host.saveRunningMachine()
    let second = HistoryBuilder.second
    for ahead in [0, second * 3 / 5, -second * 3 / 5, second * 3 / 2, -second * 3 / 2] {
      host.restore(saved, ahead: [1: ahead])
      host.readAndSettle()
      guard ahead == 0 else { continue }
      for id in [0, 1] { host.restoreTSC(id, to: 1) }
      for id in [0, 1] { host.enter(id) }
      for id in [0, 1] { host.register(id) }
      host.readAndSettle()
      host.createVCPU(2)
      host.register(2)
      host.readAndSettle()
    }
    host.restore(saved)
    host.readAndSettle()
    host.createVCPU(2)
    host.register(2)
    host.readAndSettle()
    for isRestored in [true, false] {
      host.restore(saved, parked: (2, isRestored))
      host.readAndSettle(except: 2)
    }
  }

  /// `drops` is KVM that takes a first value for an attempt to synchronise with the TSC from creation.
  static func firstTSCWrite(_ host: inout HistoryBuilder, drops: (Int) -> Bool) {
    let second = UInt64(HistoryBuilder.second)
    let writes: [(id: Int, ahead: UInt64?)] = [
      (0, second / 2), (1, second / 2), (0, nil), (0, 1 << 45),
    ]
    for (index, (id, ahead)) in writes.enumerated() {
      host.createMachine()
      for each in [0, 1] { host.createVCPU(each, tscOffset: 5_000_000 &- host.time.cycles) }
      let had = host.time.cycles &+ host.vcpus[id]!.tscOffset
      host.hostReadTSC(id)
      let before = host.vcpus[id]!.tscOffset
      host.hostWriteTSC(id, ahead.map { had &+ $0 } ?? 1000)
      if drops(index) { host.vcpus[id]?.tscOffset = before }
      host.hostReadTSC(id)
      for each in [0, 1] { host.register(each) }
      host.read(id)
    }
  }

  static func firstTSCWrite(_ host: inout HistoryBuilder) { firstTSCWrite(&host) { _ in false } }

  /// With `sets` false the setting is not kept.
  static func clockBeforeVCPUs(_ host: inout HistoryBuilder, sets: Bool) {
    for value: UInt64 in [3_600_000_000_000, 1 << 63, 77_777_777_777] {
      host.createMachine()
      let before = host.clockOffset
      host.setClock(value)
      if !sets { host.clockOffset = before }
      host.getClock()
      host.wait(milliseconds: 1)
      for id in [0, 1] { host.createVCPU(id) }
      host.getClock()
      for id in [1, 0] { host.register(id) }
      host.createVCPU(2)
      host.register(2)
      for id in [0, 1, 2] { host.read(id) }
      host.getClock()
    }
  }

  static func clockBeforeVCPUs(_ host: inout HistoryBuilder) {
    clockBeforeVCPUs(&host, sets: true)
  }

  static let restoreOrders: [[HistoryBuilder.RestoreStep]] = [
    [.clock, .records, .tscs], [.clock, .tscs, .records], [.records, .clock, .tscs],
    [.records, .tscs, .clock], [.tscs, .clock, .records], [.tscs, .records, .clock],
  ]

  /// `fault` gets the machine with its number before its first entry.
  static func restoreOrder(
    _ host: inout HistoryBuilder, fault: (inout HistoryBuilder, Int) -> Void
  ) {
    let saved = host.saveRunningMachine()
    let byOffset = restoreOrders.map { $0.map { $0 == .tscs ? .offsets : $0 } }
    for (number, order) in (restoreOrders + byOffset).enumerated() {
      host.restore(saved, in: order)
      if number == 0 {
        for vcpu in host.vcpus.keys.sorted() {
          host.host(.featuresSet(vcpu: vcpu, features: 0x0100_0009))
        }
      }
      fault(&host, number)
      host.readAndSettle()
    }
    var pair = Sisters(host, count: 2)
    for name in [0, 1] {
      pair.with(name) { host in
        host.restore(saved)
        fault(&host, 12 + name)
      }
    }
    for name in [0, 1, 0] { pair.with(name) { $0.readAndSettle() } }
    host = pair.hosts[0]
    host.events = pair.finished.events
  }

  static func restoreOrder(_ host: inout HistoryBuilder) { restoreOrder(&host) { _, _ in } }
}
