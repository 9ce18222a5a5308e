"""What PanDA's client can be told of a step: the options of `prun`, under its own names."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PandaOptions(BaseModel):
    """Options of one task, as `prun` 2.2 calls them. What is not said is left to the server.

    Options that decide what is read, made, run or named are not here: the workflow says those.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nJobs: int | None = Field(None, ge=1, description="jobs of a step without input")
    nFiles: int | None = Field(None, ge=1, description="input files to use at most")
    nSkipFiles: int | None = Field(None, ge=0)
    nFilesPerJob: int | None = Field(None, ge=1)
    maxNFilesPerJob: int | None = Field(None, ge=1, description="200 unless it is said")
    nGBPerJob: str | None = Field(None, pattern=r"^(\d+|MAX)$", description="gigabytes of input for each job, or MAX")
    nEventsPerJob: int | None = Field(None, ge=1)
    nEventsPerFile: int | None = Field(None, ge=1)
    nEvents: int | None = Field(None, ge=1)
    nCore: int | None = Field(None, ge=1)
    memory: int | None = Field(None, ge=1, description="megabytes for each core")
    maxWalltime: int | None = Field(None, ge=1, description="hours")
    cpuTimePerEvent: int | None = Field(None, ge=1, description="HS06 seconds")
    outDiskCount: int | None = Field(None, ge=1, description="kilobytes")
    maxAttempt: int | None = Field(None, ge=1, le=50)
    priority: int | None = None
    architecture: str | None = None
    excludedSite: tuple[str, ...] = ()
    forceStaged: bool = Field(False, description="copy input to the node before the job begins")
    avoidVP: bool = False
    mergeOutput: bool = False
    mergeScript: str | None = Field(None, description='for example "./merge.sh %IN %OUT"')
    nGBPerMergeJob: str | None = Field(None, pattern=r"^(\d+|MAX)$")
    skipScout: bool = Field(False, description="start all jobs at once, without trying a few first")
    allowNoOutput: tuple[str, ...] = Field((), description="outputs that a job may leave out")
    disableAutoRetry: bool = False
    noLoopingCheck: bool = False
    noEmail: bool = True
