import PVClock
import Testing

@testable import Inside

struct SearchTests {
  static let mapsOfLinux618 = """
    7f19a3c2e000-7f19a3c2f000 rw-p 00000000 00:00 0 
    7f19a3c2f000-7f19a3c33000 r--p 00000000 00:00 0                          [vvar]
    7f19a3c33000-7f19a3c35000 r--p 00000000 00:00 0                          [vvar_vclock]
    7f19a3c35000-7f19a3c37000 r-xp 00000000 00:00 0                          [vdso]
    """
  static let mapsOfLinux612 = """
    7ffff7fc1000-7ffff7fc5000 r--p 00000000 00:00 0                          [vvar]
    7ffff7fc5000-7ffff7fc7000 r-xp 00000000 00:00 0                          [vdso]
    """
  static let record = ClockPage(
    version: 8, tscTimestamp: 1000, systemTime: 5, tscToSystemMultiplier: 3_308_725_546,
    tscShift: -1, flags: .tscStable)

  @Test func pagesAreNumberedWithinTheirMapping() {
    let pages = RecordSearch.pages(inMaps: Self.mapsOfLinux618)
    #expect(
      pages.map(\.place) == [
        "[vvar] + 0", "[vvar] + 1", "[vvar] + 2", "[vvar] + 3", "[vvar_vclock] + 0",
        "[vvar_vclock] + 1",
      ])
    #expect(pages[1].address == 0x7f19_a3c3_0000)
  }

  @Test(arguments: [
    "", "nonsense", "zz-11 r--p 0 0:0 0 [vvar]", "20-10 r--p 0 0:0 0 [vvar]",
    "0-ffffffffffffffff r--p 0 0:0 0 [vvar]", "7ffff7fc5000-7ffff7fc7000 r-xp 0 0:0 0 [vdso]",
  ])
  func otherLinesHaveNoPages(_ maps: String) {
    #expect(RecordSearch.pages(inMaps: maps).isEmpty)
  }

  @Test(arguments: [
    (mapsOfLinux618, "[vvar_vclock] + 0", "[vvar_vclock] + 0"),
    (mapsOfLinux612, "[vvar] + 1", "[vvar] + 1"),
    // Elsewhere it is found by its shape.
    (mapsOfLinux612, "[vvar] + 2", "[vvar] + 2"), (mapsOfLinux618, "[vvar] + 3", "[vvar] + 3"),
    (mapsOfLinux618, "nowhere", nil),
  ])
  func theRecordIsFound(_ maps: String, _ place: String, _ found: String?) {
    let pages = RecordSearch.pages(inMaps: maps)
    let page = RecordSearch.record(in: pages, tsc: 2000) { address in
      pages.contains { $0.address == address && $0.place == place } ? Self.record.bytes : nil
    }
    #expect(page?.place == found)
  }

  @Test func aRecordInItsPlaceMayBeWrong() {
    var wrong = Self.record
    (wrong.pad, wrong.version, wrong.flags) = (7, 9, .reserved)
    #expect(RecordSearch.hasScale(wrong))
    #expect(!RecordSearch.looksLikeRecord(wrong, tsc: 2000))
  }

  /// The vDSO's own data page: seq, clock_mode, cycle_last, mask, mult, shift.
  @Test(arguments: [
    ClockPage(
      version: 10, pad0: 1, tscTimestamp: 5, systemTime: .max, tscToSystemMultiplier: 6_462_000,
      tscShift: 24),
    ClockPage(
      version: 10, tscTimestamp: 5, systemTime: 0xffff_ffff, tscToSystemMultiplier: 2_343_484_437,
      tscShift: 25),
    ClockPage(version: 0), ClockPage(),
  ])
  func otherPagesAreNoRecords(_ page: ClockPage) {
    #expect(!RecordSearch.looksLikeRecord(page, tsc: 2000))
    #expect(!RecordSearch.hasScale(page))
  }

  @Test func aPageThatIsNotThereIsNoSignal() {
    guard let probe = PageProbe() else {
      Issue.record("no pipe")
      return
    }
    let record = MadeRecord()
    let (absent, present) = (probe.bytes(at: 4096), probe.bytes(at: record.mapped.address))
    #expect(absent == nil)
    #expect(present == record.page.bytes)
  }
}
