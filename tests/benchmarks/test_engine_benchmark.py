from benchmarks.engine import row
from samebox.engine import EngineReport, Profile


def test_a_row_shows_what_the_build_reports():
    side = (32, 64, 128)
    report = EngineReport(
        flavour="tensorrt_rtx",
        version="1",
        opset=18,
        targets=["SM86", "SM120"],
        profile=Profile((1, 1, 4), side, side),
        tf32=False,
        workspace_mb=1,
        layers=12,
        build_seconds=3.26,
        peak_memory_mb=512.4,
        onnx_sha256="",
        plan_sha256="",
        plan_bytes=2_500_000,
        metadata={},
        built_on={},
    )
    assert row(report) == ["SM86, SM120", "3.3", "512", "2.5", "12"]
