/// What a process sees of its guest's clock: the host's record, or why there is none.
public struct GuestView: Sendable {
  public var facts: GuestFacts
  public var record: MappedRecord?
  public var absence: Absence?
  /// The CPUs that this process may use.
  public var cpus: [Int]
  /// What CPUID gives, on the CPU on which the thread runs; its number comes first.
  var cpuid: @Sendable (Int, UInt32) -> CPUIDLeaf

  /// A view of what a test or a user gives.
  public init(
    facts: GuestFacts, record: MappedRecord, cpus: [Int],
    cpuid: @escaping @Sendable (Int, UInt32) -> CPUIDLeaf = { CPUIDLeaf.read($1) }
  ) {
    self.facts = facts
    self.record = record
    self.cpus = cpus
    self.cpuid = cpuid
  }

  /// Looks at this machine.
  ///
  /// - Parameter record: a record to read in the place of the host's.
  public static func current(record: MappedRecord? = nil) -> GuestView {
    let facts = GuestFacts.current()
    let pages = RecordSearch.pages(inMaps: readFile("/proc/self/maps") ?? "")
    var view = GuestView(facts, cpus: usableCPUs())
    view.record = record ?? found(in: pages)
    if view.record == nil { view.absence = Absence(facts, hasPages: !pages.isEmpty) }
    return view
  }

  private init(_ facts: GuestFacts, cpus: [Int]) {
    self.facts = facts
    self.cpus = cpus
    cpuid = { CPUIDLeaf.read($1) }
  }

  private static func found(in pages: [VDSOPage]) -> MappedRecord? {
    guard let probe = PageProbe() else { return nil }
    let tsc = timestampCounter()
    guard let page = RecordSearch.record(in: pages, tsc: tsc, bytes: { probe.bytes(at: $0) }),
      let pointer = UnsafeRawPointer(bitPattern: UInt(page.address))
    else { return nil }
    return MappedRecord(at: pointer, place: page.place)
  }
}
